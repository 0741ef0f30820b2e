"""Greedy replies of frozen weights against transformers' own `generate`: memory and processor time.

`python -m benchmarks generation`. A small Llama with the vocabulary of Gemma (262,144 tokens), so that the
output matrix is nearly all there is; each way in a process of its own. `trainable` weights take torch's good
path, `frozen` ones the bad one: see `lens_train.generation`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table

VOCABULARY, WIDTH, ROWS, PROMPT, TOKENS = 262_144, 128, 20, 24, 16
WAYS = {
    "generate, trainable weights": "the baseline",
    "generate, frozen weights": "",
    "lens_train.generation, frozen weights": "at most 1.1 x the baseline",
    "generate, trainable weights, one row goes on": "",
    "lens_train.generation, frozen weights, one row goes on": "",
}


def main() -> None:
    """Measure and write the table."""
    rows: list[dict[str, Any]] = []
    for dtype in ("bfloat16", "float32"):
        for way, target in WAYS.items():
            command = [sys.executable, "-m", "benchmarks.generation", way, dtype]
            output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            found = json.loads(output.splitlines()[-1])
            rows.append({"weights": dtype, "way": way, **found, "target": target})
    notes = [
        f"{ROWS} prompts of {PROMPT} tokens, {TOKENS} tokens each; vocabulary {VOCABULARY:,}, width {WIDTH}, "
        "one layer, random weights. GB: the peak of the process over what it held with the model loaded.",
        f"Torch threads: {os.environ.get('OMP_NUM_THREADS', 'default')}; load at the end: "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
        f"Where one row goes on, it does for {4 * TOKENS} tokens; the other {ROWS - 1} replies end after 1.",
    ]
    write_table("generation", "Greedy replies of frozen weights on a CPU", rows, notes)


def measure(way: str, dtype: str) -> dict[str, float]:
    """One way in this process: processor seconds, and GB at the peak beside the model."""
    import torch

    from lens_train import generation
    from lens_train.memory import peak_memory, reset_peak

    model = _model(dtype)
    model.requires_grad_("trainable" in way)
    unequal = "goes on" in way
    ids = torch.arange(ROWS * PROMPT).view(ROWS, PROMPT) % 1000
    end, tokens = (2, 4 * TOKENS) if unequal else (-1, TOKENS)
    if unequal:  # the reply counts on from the last token to the end
        ids[:] = 5
        ids[:, -1] = end + 2
        ids[0, -1] = end + 10_000
    before = _resident()
    reset_peak()
    begun = time.process_time()
    if "lens_train" in way:
        generation.generate(model, None, ids.tolist(), tokens, 10**6, ends=[end], label=None)
    else:
        with torch.no_grad():
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                eos_token_id=end if unequal else None,
                pad_token_id=0,
            )
    seconds = time.process_time() - begun
    return {"processor seconds": seconds, "GB": (peak_memory(torch.device("cpu")) - before) / 1e9}


def _model(dtype: str) -> Any:
    """A Llama of one layer whose every token brings about the one before it."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight[:-1] = model.model.embed_tokens.weight[1:]
    return model


def _resident() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measure(*sys.argv[1:3])))
    else:
        main()
