"""The check of `lens doctor` that hf and vLLM are the same model: both answer some items, greedily.

Tokens are compared, not texts. Texts of equal tokens can differ: a limit of tokens cuts characters of several
bytes in two, and one backend writes a replacement for the half character, the other nothing. Nor does a
text, encoded again, always give back its tokens.

Two right backends add in different orders. If two tokens are nearly as likely, each backend may take another
of them, and the replies differ from there on. So hf is asked how far apart it holds the two tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line
from lens_eval.doctor.template_checks import end_tokens

NAME = "hf and vllm"
ITEMS = 8
"""Items of each kind that both backends are asked."""
TOKENS = 32
"""Tokens of a compared reply."""
TIES = {"float32": 0.01, "bfloat16": 0.25}
"""Tokens whose logits are at most so far apart are nearly as likely, by the precision of both backends."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """What one backend answered."""

    replies: tuple[Tokens, ...]
    """Tokens of greedy replies, without the end token."""
    choices: tuple[int, ...]
    """Index of the likeliest option of each item."""
    prompts: tuple[Tokens, ...] = ()
    """Tokens of the prompts that were replied to."""


@dataclass
class Heard:
    """Prompt and reply tokens that pass through a backend, of which lm_eval hands on texts alone."""

    ends: frozenset[int]
    replies: dict[Tokens, Tokens] = field(default_factory=dict)
    """By the prompt's tokens, in the order in which they were fed."""

    def add(self, prompt: Sequence[int], reply: Sequence[int]) -> None:
        end = next((place for place, token in enumerate(reply) if token in self.ends), len(reply))
        self.replies[tuple(prompt)] = tuple(reply[:end])


def check_parity(patient: Patient, tasks: Sequence[Any]) -> Result:
    """hf and vLLM answer some items alike, or part only where two tokens are nearly as likely."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        return Result(NAME, "skipped", "vLLM is not installed here")
    kinds = {task.OUTPUT_TYPE: task for task in reversed(tasks)}
    kinds = {kind: task for kind, task in kinds.items() if kind in ("generate_until", "multiple_choice")}
    if not kinds:
        return Result(NAME, "skipped", "no task with items was named")
    chosen = list(kinds.values())
    try:
        theirs, _ = _ask_backend(patient, "vllm", chosen)
    except (UserError, RuntimeError, ValueError) as error:
        return Result(NAME, "failed", f"vllm does not run this model: {first_line(error)}")
    try:
        ours, gaps = _ask_backend(patient, "hf", chosen, theirs)
    except (UserError, RuntimeError, ValueError) as error:
        return Result(NAME, "failed", f"hf does not run this model: {first_line(error)}")
    if ours.prompts != theirs.prompts:
        return Result(NAME, "failed", _unequal_prompts(patient, ours, theirs))
    return judged(ours, theirs, gaps, _precision(patient))


def _unequal_prompts(patient: Patient, ours: Asked, theirs: Asked) -> str:
    """The first prompt that the two feed differently, by its first unequal token."""
    pairs = zip(ours.prompts, theirs.prompts, strict=False)
    one, other = next((a, b) for a, b in pairs if a != b)
    at = parting(one, other)
    shown = [patient.tokenizer.convert_ids_to_tokens(list(ids[at : at + 4])) for ids in (one, other)]
    return (
        f"they are fed other prompts: token {at} on, hf reads {shown[0]}, vllm {shown[1]}; "
        "compare add_bos_token and chat template"
    )


def parting(one: Sequence[int], other: Sequence[int]) -> int:
    """Place of the first unequal token; the shorter length if one begins with the other."""
    both = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in both if a != b), min(len(one), len(other)))


def judged(ours: Asked, theirs: Asked, gaps: Sequence[float], precision: str) -> Result:
    """The outcome of the check.

    Args:
        gaps: for each pair of unequal replies, the difference in hf's logits of the tokens at the first
            difference.
        precision: `float32` or `bfloat16`.
    """
    parts, same, total = [], 0, 0
    for what, own, other in (
        (f"greedy replies of {TOKENS} tokens", ours.replies, theirs.replies),
        ("choices", ours.choices, theirs.choices),
    ):
        equal = sum(a == b for a, b in zip(own, other, strict=True))
        if own:
            parts.append(f"{equal} of {len(own)} {what} are equal")
        same, total = same + equal, total + len(own)
    words, tie = ", ".join(parts), TIES[precision]
    tied = sum(gap <= tie for gap in gaps)
    if gaps:
        apart = f"hf holds the two tokens at most {max(gaps):.2g} logits apart"
        words += f"; where the others part, {apart} (up to {tie} is rounding in {precision})"
    if same + tied == total:
        return Result(NAME, "ok", words)
    if same + tied >= total / 2:
        return Result(NAME, "warning", f"{words}; compare prompts, dtype and attention of the two")
    words += ": the two do not run the same model or prompt; compare prompts and dtype"
    return Result(NAME, "failed", words)


def _precision(patient: Patient) -> str:
    """The precision that the backends run in: the one given, or that of the checkpoint."""
    named = str(patient.backend.args.get("dtype", "auto"))
    if named == "auto":
        named = str(patient.config.dtype).removeprefix("torch.")
    return "float32" if named == "float32" else "bfloat16"


def _ask_backend(
    patient: Patient, backend: str, tasks: Sequence[Any], theirs: Asked | None = None
) -> tuple[Asked, list[float]]:
    """Greedy replies and choices on the first items of each task.

    With `theirs`, what the other backend answered, also the gaps of the unequal replies (see `gap`), which
    the loaded weights are asked for.
    """
    from dataclasses import replace

    from lens_eval.base.paths import Paths
    from lens_eval.runs.evaluation import Evaluator
    from lens_eval.runs.recipe import ANY_BACKEND
    from lens_eval.runs.sources import model_arguments
    from lens_eval.upstream.evaluation import quiet

    kept = {key: value for key, value in patient.backend.args.items() if key in ANY_BACKEND}
    args: Mapping[str, Any] = patient.backend.args if backend == patient.backend.model else kept
    if backend == "vllm" and not {"max_model_len", "max_length"} & set(args):
        # vLLM measures a pass over its whole context when it starts: minutes for a long one on a CPU.
        args = {**args, "max_model_len": min(patient.max_length, _needed(patient, tasks))}
    settings = replace(
        patient.backend, model=backend, args=args, batch_size=ITEMS if backend == "hf" else "auto"
    )
    arguments = model_arguments(patient.model, patient.adapter, backend)
    evaluator = Evaluator(arguments, settings, patient.device, "doctor", 0, Paths({}))
    heard = Heard(frozenset(end_tokens(patient)))
    choices: list[int] = []
    try:
        with quiet():
            for task in tasks:
                _build(patient, task, evaluator.model.apply_chat_template)
                if task.OUTPUT_TYPE == "generate_until":
                    with listening(evaluator.model, backend, heard):
                        _reply(evaluator.model, task)
                else:
                    choices += _choices(evaluator.model, task)
            asked = _sorted(heard, tuple(choices))
            return asked, _gaps(evaluator.model.model, asked, theirs, heard.ends) if theirs else []
    finally:
        evaluator.close()


def _build(patient: Patient, task: Any, chat_template: Any) -> None:
    """The requests of the first items."""
    task.build_all_requests(
        limit=ITEMS,
        system_instruction=patient.backend.system_instruction,
        apply_chat_template=patient.uses_template,
        fewshot_as_multiturn=patient.uses_template,
        chat_template=chat_template if patient.uses_template else None,
        tokenizer_name="",
    )


def _needed(patient: Patient, tasks: Sequence[Any]) -> int:
    """Tokens of context that the compared prompts and replies need."""
    prompter = Prompter(patient)
    longest = 0
    for task in tasks:
        _build(patient, task, prompter.apply_chat_template)
        for instance in task.instances:
            rest = instance.args[1] if task.OUTPUT_TYPE != "generate_until" else None
            longest = max(longest, len(prompter.encode(instance.args[0], rest)))
    return longest + TOKENS + 16


def _sorted(heard: Heard, choices: tuple[int, ...]) -> Asked:
    """The backends feed in orders of their own: both are put into one."""
    pairs = sorted(heard.replies.items())
    return Asked(tuple(reply for _, reply in pairs), choices, tuple(prompt for prompt, _ in pairs))


@contextmanager
def listening(model: Any, backend: str, heard: Heard) -> Iterator[None]:
    """Let `heard` hold what the backend generates until the block ends."""
    generate = model._model_generate

    def by_hf(context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        found = generate(context, max_length=max_length, stop=stop, **settings)
        masks = settings["attention_mask"].bool()
        for prompt, mask, row in zip(context, masks, found, strict=True):
            reply = row[len(prompt) :].tolist()
            while reply and reply[-1] == model.tokenizer.pad_token_id:
                reply.pop()
            heard.add(prompt[mask].tolist(), reply)
        return found

    def by_vllm(requests: list[list[int]], *arguments: Any, **settings: Any) -> Any:
        found = generate(requests, *arguments, **settings)
        for prompt, output in zip(requests, found, strict=True):
            heard.add(prompt, output.outputs[0].token_ids)
        return found

    model._model_generate = by_hf if backend == "hf" else by_vllm
    try:
        yield
    finally:
        model._model_generate = generate


def _reply(model: Any, task: Any) -> None:
    for instance in task.instances:
        instance.args[1].update(do_sample=False, temperature=0.0, max_gen_toks=TOKENS)
    model.generate_until(task.instances)


def _choices(model: Any, task: Any) -> list[int]:
    options: dict[int, list[float]] = {}
    for instance, (score, _) in zip(task.instances, model.loglikelihood(task.instances), strict=True):
        options.setdefault(instance.doc_id, []).append(score)
    return [scores.index(max(scores)) for scores in options.values()]


def _gaps(model: Any, ours: Asked, theirs: Asked, ends: frozenset[int]) -> list[float]:
    """The gap of each pair of unequal replies to the same prompt."""
    return [
        gap(model, prompt, one, other, ends)
        for prompt, own, one, other in zip(
            ours.prompts, theirs.prompts, ours.replies, theirs.replies, strict=False
        )
        if one != other and prompt == own
    ]


def gap(model: Any, prompt: Tokens, one: Tokens, other: Tokens, ends: frozenset[int]) -> float:
    """How far apart a model holds the logits of the two tokens at which unequal replies to a prompt part.

    Where one reply has ended, its token is the likeliest of `ends`. Infinite if there is none.
    """
    import torch

    at = parting(one, other)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *one[:at]]], device=model.device)).logits[0, -1].float()
    if not ends and at in (len(one), len(other)):
        return math.inf
    end = max(float(logits[number]) for number in ends) if ends else math.inf
    own, their = (float(logits[reply[at]]) if at < len(reply) else end for reply in (one, other))
    return abs(own - their)
