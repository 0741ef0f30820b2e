"""Writes replies to be read: `python -m benchmarks.judged.generate NAME MODEL OUT [PROMPTS [TOKENS]]`.

MODEL is a folder or a hub id; a line of OUT holds `model` (the NAME), `item`, `language`, `prompt`, `reply`,
and `ended` (false if the token limit cut the reply).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from lens_train.checkpoint import Checkpoint
from lens_train.data import Renderer
from lens_train.generation import generate, unrolled
from lens_train.stream import open_decoder

PROMPTS = Path(__file__).parent / "prompts.jsonl"
TOKENS = 80
"""Most tokens of a reply, unless others are asked for."""
BATCH = 3072
"""Most tokens of a batch."""


def replies(name: str, model: str, prompts: Path, tokens: int) -> list[dict[str, object]]:
    """Greedy replies in float32 to every prompt of the file, by the chat template without a system prompt."""
    rows = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines()]
    decoder = open_decoder(model, torch.device("cpu"), torch.float32, "never")
    tokenizer = Checkpoint.open(model).tokenizer
    ids = Renderer(tokenizer, "chat", None)([row["prompt"] for row in rows], 512)
    found = generate(decoder.model, tokenizer, ids, tokens, BATCH)
    return [
        {
            "model": name,
            **row,
            "reply": tokenizer.decode(unrolled(reply, tokens), skip_special_tokens=True),
            "ended": reply.ended,
        }
        for row, reply in zip(rows, found, strict=True)
    ]


def main(name: str, model: str, out: str, prompts: str = str(PROMPTS), tokens: str = str(TOKENS)) -> None:
    """Generate and write."""
    found = replies(name, model, Path(prompts), int(tokens))
    lines = [json.dumps(row, ensure_ascii=False) for row in found]
    Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
