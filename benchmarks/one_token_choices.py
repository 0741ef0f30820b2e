"""Four one-letter options through vLLM: one generation per item against lm_eval's one request per option.

Writes results/bench/one_token_choices.{md,json}; needs vLLM (`make test-vllm` installs it). Goal: the same
choice on every item, at least twice the items per second. Same engine, same requests; before every round
the prefix cache is emptied, and a round of each way before the first one is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_table
from benchmarks.random_llama import save_small, save_tokenizer
from lens_eval.mini import backbone_path
from lens_eval.tasks.built_in import documents

OPTIONS = ("A", "B", "C", "D")
ROUNDS = 3


def main() -> None:
    """Measure two models; the table is written after each."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_small(folder)
        save_tokenizer(folder)
        for name, model, items in (
            ("built-in, 1.4M", backbone_path(), 100),
            ("random Llama, 126M", folder, 5),
        ):
            rows.append(measure(name, model, items))
            write(rows)
    assert all(row["same choices"] == f"{row['items']} of {row['items']}" for row in rows)
    assert all(row["times faster"] >= 2 for row in rows)


def write(rows: list[dict[str, Any]]) -> None:
    """Write the table of the models measured so far."""
    write_table(
        "one_token_choices",
        "Items per second of a multiple choice with four one-letter options, vLLM, float32",
        rows,
        [
            f"Median of {ROUNDS} rounds on one loaded engine; both ways get the same requests, as fast as "
            "the engine takes them. Lens way: `lens_vllm`; stock way: lm_eval's `vllm` on the same object.",
            "Same choices: items on which both ways choose the same option.",
            "Largest difference: between the log-likelihoods of the two ways.",
        ],
    )


def measure(name: str, model: Path, items: int) -> dict[str, Any]:
    """One row: both ways on one engine."""
    from lm_eval.models.vllm_causallms import VLLM

    from lens_eval.backends.vllm import LensVLLM

    lm = LensVLLM(str(model), dtype="float32", batch_size="auto", max_model_len=1024)
    try:
        requests = _requests(lm, items)
        answers: dict[type, list[tuple[float, bool]]] = {}
        seconds: dict[type, list[float]] = {VLLM: [], LensVLLM: []}
        for number in range(ROUNDS + 1):
            for way, times in seconds.items():
                lm.model.reset_prefix_cache()
                start = time.perf_counter()
                answers[way] = way._loglikelihood_tokens(lm, requests, disable_tqdm=True)
                if number:
                    times.append(time.perf_counter() - start)
    finally:
        lm.close()
    stock, ours = (items / statistics.median(seconds[way]) for way in (VLLM, LensVLLM))
    chosen = [_choices(answers[way]) for way in (VLLM, LensVLLM)]
    same = sum(a == b for a, b in zip(*chosen, strict=True))
    difference = max(abs(a - b) for (a, _), (b, _) in zip(answers[VLLM], answers[LensVLLM], strict=True))
    return {
        "model": name,
        "items": items,
        "tokens per prompt": sum(len(context) for _, context, _ in requests) / len(requests),
        "stock, items/s": stock,
        "Lens, items/s": ours,
        "times faster": ours / stock,
        "same choices": f"{same} of {items}",
        "largest difference": difference,
    }


def _requests(lm: Any, items: int) -> list[Any]:
    """Questions of the built-in world, each with its four options listed and a letter asked for."""
    found = []
    for doc in documents("test", "en")[:items]:
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip(OPTIONS, doc["choices"], strict=True))
        text = f"{doc['prompt']}\n{listed}\nAnswer with the letter only."
        prompt = lm.apply_chat_template([{"role": "user", "content": text}])
        found += [((prompt, letter), *lm._encode_pair(prompt, letter)) for letter in OPTIONS]
    return found


def _choices(answers: list[tuple[float, bool]]) -> list[int]:
    count = len(OPTIONS)
    items = [answers[start : start + count] for start in range(0, len(answers), count)]
    return [max(range(count), key=lambda option: item[option][0]) for item in items]


if __name__ == "__main__":
    main()
