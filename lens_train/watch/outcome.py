"""The outcome of training, printed at its end and kept: losses, written weights, replies before and after.

The document is the field `outcome` of `variant.json`. A part that a method or a run does not have is absent:

    losses    `steps`; `averaged`: number of first and of last steps that a mean is taken over; `terms`:
              term of the log -> [first, last]
    weights   `trained`: number of trained weights; `changed`: number of those whose value in the file differs
              from the base's; `dtype` of the file (several: joined by commas); `wanted`, `written`: length of
              the change before and after rounding to that type (rounding to the next value up lengthens
              it); `error`: length of the difference
    replies   `text`: which prompts; `items` per language; `most_tokens` of a reply; `before` and `after`:
              language -> `usable` (in the language asked for, no loop, no echo, not empty), `off_target`,
              `undetermined`, `looping`, `echoing`, `empty`: numbers of replies; a reply may count in several;
              `unwritten`: languages in which no reply is usable or in the central language.
              The replies themselves are in `training/replies.jsonl`
    skipped   why there are no replies
    warnings  sentences; empty if nothing is wrong
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.reading import read_object
from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_train.data import Renderer
from lens_train.decoder import Decoder
from lens_train.devices import dtype_name
from lens_train.export import Place
from lens_train.generation import generate
from lens_train.plan import HeldOut
from lens_train.probing import renderer
from lens_train.watch.dev import PROMPT_TOKENS, as_written
from lens_train.watch.summary import warnings

if TYPE_CHECKING:
    from lens_train.plan import Plan

REPLIES = "replies.jsonl"
BEFORE = "replies_before.json"
SHOWN = 4
"""Prompts per language that are answered before and after training."""
REPLY_TOKENS = 48
"""Most tokens of such a reply."""
AVERAGED = 3
"""Most steps at the start and at the end whose losses are averaged."""
PART = 1 << 22
"""Numbers of a tensor that are compared at once."""

Counts = dict[str, dict[str, int]]
"""Language -> number of replies of each kind."""


def losses(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """First and last values of every loss term of a log; empty if the log has none."""
    names = [name for name in (log[0] if log else {}) if _is_term(name)]
    size = max(1, min(AVERAGED, len(log) // 2))
    terms = {name: [_mean(log[:size], name), _mean(log[-size:], name)] for name in names}
    return {"steps": len(log), "averaged": size, "terms": terms} if terms else {}


def _is_term(name: str) -> bool:
    return name.partition(".")[0] in ("loss", "retain", "separate", "align")


def _mean(records: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(f"{sum(record[name] for record in records) / len(records):.5g}")


def weight_change(trained: Mapping[str, Tensor], base: Mapping[str, Place]) -> dict[str, Any]:
    """How much of the weights' change remains in the types of the base's file.

    Args:
        trained: tensors under the names of the checkpoint, in the precision of training.
        base: locations of the same tensors in the base's files.
    """
    count = changed = 0
    wanted = written = error = 0.0
    for name, tensor in trained.items():
        for before, now in _parts(base[name], tensor):
            change = now.float() - before
            rounded = now.to(base[name].dtype).float() - before
            count += before.numel()
            changed += int(rounded.count_nonzero())
            wanted += _squares(change)
            written += _squares(rounded)
            error += _squares(rounded - change)
    return {
        "trained": count,
        "changed": changed,
        "dtype": ",".join(sorted({dtype_name(base[name].dtype) for name in trained})),
        "wanted": float(f"{wanted**0.5:.5g}"),
        "written": float(f"{written**0.5:.5g}"),
        "error": float(f"{error**0.5:.5g}"),
    }


def _squares(values: Tensor) -> float:
    return float(values.double().square().sum())


def _parts(place: Place, tensor: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices of a tensor of the base's file in float32, and of the trained tensor, on the CPU."""
    flat = tensor.detach().reshape(-1)
    with place.file.open("rb") as file:
        for at in range(0, flat.numel(), PART):
            now = flat[at : at + PART].cpu()
            file.seek(place.start + at * place.dtype.itemsize)
            raw = bytearray(file.read(now.numel() * place.dtype.itemsize))
            yield torch.frombuffer(raw, dtype=place.dtype).float(), now


@dataclass(frozen=True)
class Shown:
    """Held-out prompts, and the untrained model's replies to them."""

    held_out: HeldOut
    central: str
    prompts: Mapping[str, list[list[int]]]
    """Language -> token ids of each prompt."""
    before: Mapping[str, list[str]]
    """Language -> reply to each prompt."""
    folder: Path

    @staticmethod
    def begin(
        decoder: Decoder,
        tokenizer: Any,
        held_out: HeldOut,
        central: str,
        render: Renderer,
        budget: int,
        folder: Path,
        run: str,
    ) -> Shown:
        """Answer the prompts with the current weights, or read the replies that `run` kept in `folder`."""
        texts = held_out.texts.texts
        prompts = {code: render(texts[code], PROMPT_TOKENS) for code in texts}
        before = _kept(folder / BEFORE, run, prompts)
        if before is None:
            before = answer(decoder, tokenizer, prompts, budget, "replies before")
            folder.mkdir(parents=True, exist_ok=True)
            content = json.dumps({"run": run, "replies": before}, ensure_ascii=False)
            write_text(folder / BEFORE, content + "\n")
        return Shown(held_out, central, prompts, before, folder)

    def end(self, decoder: Decoder, tokenizer: Any, budget: int) -> dict[str, Any]:
        """Answer again, write `replies.jsonl`, and return the verdicts on both sets of replies."""
        after = answer(decoder, tokenizer, self.prompts, budget, "replies after")
        texts = self.held_out.texts.texts
        judged = [judge(replies, texts, self.central) for replies in (self.before, after)]
        lines = [
            {
                "language": code,
                "item": item,
                "prompt": texts[code][item],
                "before": {"text": self.before[code][item], **judged[0][code][item]},
                "after": {"text": after[code][item], **judged[1][code][item]},
            }
            for code in texts
            for item in range(len(texts[code]))
        ]
        write_text(
            self.folder / REPLIES, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        )
        (self.folder / BEFORE).unlink(missing_ok=True)
        return {
            "text": self.held_out.text,
            "items": len(self.held_out.texts),
            "most_tokens": REPLY_TOKENS,
            "before": count(judged[0]),
            "after": count(judged[1]),
            "unwritten": [
                code for code in texts if all(map(_is_of_no_use, judged[0][code] + judged[1][code]))
            ],
        }


def begin(
    plan: Plan,
    decoder: Decoder,
    parameters: Mapping[str, nn.Parameter],
    stored: torch.dtype | None,
    run: str,
) -> Shown | None:
    """Generate the untrained model's replies, if replies are wanted and the model is in memory.

    Args:
        plan: of the run.
        decoder: the model.
        parameters: what will be trained.
        stored: see `lens_train.watch.dev.as_written`.
        run: identity of the run; replies kept by another run are ignored.
    """
    if plan.shown is None or _is_streamed(decoder):
        return None
    render = renderer(plan.tokenizer, plan.config, "train")
    folder = plan.job.output / "training"
    with as_written(parameters, decoder.dtype, stored):
        return Shown.begin(
            decoder,
            plan.tokenizer,
            plan.shown,
            plan.config.central,
            render,
            plan.config.batch_tokens,
            folder,
            run,
        )


def end(
    plan: Plan,
    decoder: Decoder,
    parameters: Mapping[str, nn.Parameter],
    changed: Mapping[str, Tensor],
    base: Mapping[str, Place],
    log: Sequence[Mapping[str, Any]],
    shown: Shown | None,
) -> dict[str, Any]:
    """The document of a run of Lens.

    Args:
        plan: of the run.
        decoder: the model.
        parameters: what has been trained.
        changed: the same under the names of the checkpoint.
        base: tensors of the checkpoint it was loaded from.
        log: a record per step.
        shown: what `begin` gave.
    """
    found: dict[str, Any] = {"losses": losses(log), "weights": weight_change(changed, base)}
    if shown is not None:
        with as_written(parameters, decoder.dtype, stored_type(changed, base)):
            found["replies"] = shown.end(decoder, plan.tokenizer, plan.config.batch_tokens)
    elif plan.shown is not None:
        found["skipped"] = "the model was streamed from disk, and must be in memory to write"
    found["warnings"] = warnings(found, plan.config.central, plan.config.learning_rate)
    return found


def stored_type(names: Iterable[str], base: Mapping[str, Place]) -> torch.dtype | None:
    """The type in which the base holds these tensors; None if there are several."""
    found = {base[name].dtype for name in names}
    return found.pop() if len(found) == 1 else None


def _is_streamed(decoder: Decoder) -> bool:
    return len(decoder.spans(len(decoder))) > 1


def _kept(path: Path, run: str, prompts: Mapping[str, Sequence[Any]]) -> dict[str, list[str]] | None:
    """The replies that `run` kept; None if there are none, or others than to these prompts."""
    if not path.is_file():
        return None
    try:
        kept = read_object(path, "record of replies")
    except UserError:  # generated again
        return None
    replies = kept.get("replies")
    if kept.get("run") != run or not isinstance(replies, dict) or replies.keys() != prompts.keys():
        return None
    whole = all(
        isinstance(own, list)
        and len(own) == len(prompts[code])
        and all(isinstance(each, str) for each in own)
        for code, own in replies.items()
    )
    return replies if whole else None


@torch.no_grad()
def answer(
    decoder: Decoder,
    tokenizer: Any,
    prompts: Mapping[str, Sequence[Sequence[int]]],
    budget: int,
    label: str,
) -> dict[str, list[str]]:
    """Greedy replies, as text, to prompts given as tokens."""
    flat = [prompt for own in prompts.values() for prompt in own]
    replies = iter(generate(decoder.model, tokenizer, flat, REPLY_TOKENS, budget, label=label))
    return {
        code: [tokenizer.decode(next(replies).tokens, skip_special_tokens=True).strip() for _ in own]
        for code, own in prompts.items()
    }


def judge(
    replies: Mapping[str, Sequence[str]], prompts: Mapping[str, Sequence[str]], central: str
) -> dict[str, list[dict[str, str]]]:
    """Language and form of each reply.

    Returns:
        Language -> for each reply `outcome` (of `lens_eval.language.off_target`; also `undetermined` if the
        judge cannot tell the language from others), `answered_in` and `form` (of
        `lens_eval.language.reply_form`).
    """
    from lens_eval.language.off_target import UNDETERMINED, judge_texts
    from lens_eval.language.reply_form import form_of

    candidates = sorted({*DEFAULT_LANGUAGES, *prompts})
    found: dict[str, list[dict[str, str]]] = {}
    for code, own in replies.items():
        try:
            verdicts = judge_texts(own, code, prompts[code], central=central, candidates=candidates)
            languages = [(verdict.outcome, verdict.answered_in) for verdict in verdicts]
        except UserError:  # a language that the detector does not know must not cost the trained model
            languages = [(UNDETERMINED, UNDETERMINED)] * len(own)
        forms = [form_of(reply, prompt).name for reply, prompt in zip(own, prompts[code], strict=True)]
        found[code] = [
            {"outcome": outcome, "answered_in": answered_in, "form": form}
            for (outcome, answered_in), form in zip(languages, forms, strict=True)
        ]
    return found


def count(judged: Mapping[str, Sequence[Mapping[str, str]]]) -> Counts:
    """Numbers of replies of each kind."""
    kinds = {"looping": "loop", "echoing": "echo", "empty": "empty"}
    found: Counts = {}
    for code, own in judged.items():
        usable = sum(each["outcome"] == "on_target" and each["form"] == "text" for each in own)
        off = sum(each["outcome"] in ("central", "other") for each in own)
        unsure = sum(each["outcome"] == "undetermined" for each in own)
        found[code] = {"usable": usable, "off_target": off, "undetermined": unsure}
        found[code] |= {kind: sum(each["form"] == form for each in own) for kind, form in kinds.items()}
    return found


def _is_of_no_use(reply: Mapping[str, str]) -> bool:
    return reply["form"] != "text" or reply["outcome"] == "other"
