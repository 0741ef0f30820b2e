"""Checks of the chat template and of the special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.templates import rendered
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line, shortened

FIRST, USER, REPLY, SYSTEM = "FIRSTTEXT", "USERTEXT", "REPLYTEXT", "SYSTEMTEXT"


def check_template(patient: Patient) -> list[Result]:
    """The chat template is there, and writes every message once."""
    tokenizer = patient.tokenizer
    if not tokenizer.chat_template:
        words = (
            "none: prompts are sent as they are, as to a base model; training needs one or `template: plain`"
        )
        needed = patient.backend.apply_chat_template is True
        return [Result("chat template", "failed" if needed else "warning", words)]
    prompter = Prompter(patient)
    try:
        plain = prompter.render([{"role": "user", "content": USER}])
        again = prompter.render([{"role": "user", "content": USER}])
    except Exception as error:  # whatever the template raises: Jinja's own errors, or those of its code
        return [Result("chat template", "failed", f"does not render a user message: {first_line(error)}")]
    faults = _message_faults(plain, again, tokenizer)
    faults += _system_faults(prompter, plain, bool(patient.backend.system_instruction))
    more, notes = _dialogue_faults(prompter)
    faults += more
    if faults:
        return [Result("chat template", "failed", "; ".join(faults) + "; mend the tokenizer's chat_template")]
    if "strftime_now" in str(tokenizer.chat_template):
        words = "writes today's date into the prompt: results of two days differ; give a system message"
        return [Result("chat template", "warning", words)]
    if notes:
        return [Result("chat template", "warning", "; ".join(notes))]
    return [Result("chat template", "ok", "every message once, the same each time")]


def _message_faults(plain: str, again: str, tokenizer: Any) -> list[str]:
    faults = [] if plain == again else ["two renderings of one message differ"]
    count = plain.count(USER)
    if count != 1:
        faults.append(f"the user's message stands in the prompt {count} times")
    bos = tokenizer.bos_token
    # Only at the beginning: a template may open every turn with it.
    written = leading(plain.split(bos), "") if bos else 0
    if written > 1:
        faults.append(f"it begins with {bos} {written} times")
    return faults


def _dialogue_faults(prompter: Prompter) -> tuple[list[str], list[str]]:
    """Faults of a rendered dialogue, whose turns stand in it once and in their order; notes if it fails."""
    turns = [("user", FIRST), ("assistant", REPLY), ("user", USER)]
    try:
        text = prompter.render([{"role": role, "content": content} for role, content in turns])
    except Exception as error:  # a template for single turns
        return [], [f"it takes no dialogue: no examples as turns, no second turns ({first_line(error)})"]
    counts = {content: text.count(content) for _, content in turns}
    faults = [f"in a dialogue {name} stands {count} times" for name, count in counts.items() if count != 1]
    places = [text.find(content) for _, content in turns]
    if not faults and places != sorted(places):
        faults.append("the turns of a dialogue stand in another order")
    return faults, []


def _system_faults(prompter: Prompter, plain: str, wanted: bool) -> list[str]:
    """A system message is written once, and the template's own gives way to it; `wanted`: a run gives one."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    try:
        given = prompter.render(messages)
    except Exception:  # the template takes no system message: lm_eval then leaves it out
        given = ""
    count = given.count(SYSTEM)
    if not count:
        return ["it leaves the system message out"] if wanted else []
    faults = [f"a system message stands in the prompt {count} times"] if count > 1 else []
    own = _own_system(prompter, plain)
    if own and own in given:
        faults.append(f"its own system message stays beside the given one ({shortened(own)})")
    return faults


def _own_system(prompter: Prompter, plain: str) -> str:
    """What the template writes before the first user turn besides BOS and the turn's own header."""
    first = [{"role": "user", "content": FIRST}, {"role": "assistant", "content": REPLY}]
    try:
        end = _behind_reply(prompter.tokenizer.apply_chat_template(first, tokenize=False))
        dialogue = prompter.render([*first, {"role": "user", "content": USER}])
    except Exception:  # a template for single turns
        return ""
    header = _behind_reply(dialogue.partition(USER)[0]).removeprefix(end)
    bos = prompter.tokenizer.bos_token
    before = plain.partition(USER)[0]
    before = before.replace(bos, "", 1) if bos else before
    return before.removesuffix(header).strip() if before.endswith(header) else ""


def _behind_reply(text: str) -> str:
    return text.rpartition(REPLY)[2]


def check_special_tokens(patient: Patient) -> Result:
    """Generation can end, padding exists, and every id is in the vocabulary."""
    tokenizer, size = patient.tokenizer, patient.config.get_text_config().vocab_size
    faults = []
    if tokenizer.eos_token_id is None:
        faults.append("no end-of-sequence token: no answer ends by itself; set eos_token")
    for name in ("bos", "eos", "pad"):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None and number >= size:
            faults.append(f"{name} token {number} is beyond the {size} embeddings")
    ends = end_tokens(patient)
    last = reply_end(patient)
    if last is not None and ends and last not in ends:
        token = tokenizer.convert_ids_to_tokens(last)
        faults.append(
            f"a reply ends with {token} ({last}), which ends no generation (those that do: "
            f"{', '.join(map(str, sorted(ends)))}): answers run on to their limit; "
            "add it to eos_token_id in generation_config.json"
        )
    if faults:
        return Result("special tokens", "failed", "; ".join(faults))
    if tokenizer.pad_token_id is None:
        return Result("special tokens", "ok", "no padding token: lm_eval pads with another, masked")
    return Result("special tokens", "ok", f"end {tokenizer.eos_token}, padding {tokenizer.pad_token}")


def end_tokens(patient: Patient) -> set[int]:
    given = patient.generation.get("eos_token_id", getattr(patient.config, "eos_token_id", None))
    listed = given if isinstance(given, list) else [given]
    return {int(number) for number in (*listed, patient.tokenizer.eos_token_id) if number is not None}


def reply_end(patient: Patient) -> int | None:
    """The special token that the template writes behind a reply; None where it writes none."""
    tokenizer = patient.tokenizer
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": USER}, {"role": "assistant", "content": REPLY}]
    try:
        text = rendered(lambda: tokenizer.apply_chat_template(turns, tokenize=False), (), "this model")
    except Exception:  # reported by `check_template`
        return None
    ids = tokenizer.encode(_behind_reply(text), add_special_tokens=False)
    return next((number for number in ids if number in tokenizer.added_tokens_decoder), None)


def check_training_prompt(patient: Patient) -> Result:
    """Lens trains on prompts framed as a run evaluates them."""
    from lens_train.config import LensConfig
    from lens_train.probing import renderer

    name, system = "training prompt", patient.backend.system_instruction
    if not patient.tokenizer.chat_template:
        return Result(name, "skipped", "no chat template")
    config = LensConfig(("en", "zh"), system_prompt=system)
    try:
        trained = renderer(patient.tokenizer, config, "train")([USER], 64)[0]
    except UserError as error:
        return Result(name, "failed", str(error))
    messages = [{"role": "system", "content": system}] if system else []
    prompter = Prompter(patient)
    fed = prompter.encode(prompter.apply_chat_template([*messages, {"role": "user", "content": USER}]))
    if trained == fed:
        return Result(name, "ok", "the frame is that of evaluation, token by token")
    given = prompter.chat_template_args
    advice = f"; train with template_args: {given}" if given else ""
    first = next(at for at, (one, other) in enumerate(zip_longest(trained, fed)) if one != other)
    training, evaluation = (shortened(patient.tokenizer.decode(ids[first:])) for ids in (trained, fed))
    return Result(
        name,
        "warning",
        f"from token {first + 1} on training reads {training}, evaluation {evaluation}: Lens would be "
        f"trained on another prompt than is evaluated{advice}",
    )


def leading(parts: Sequence[Any], value: Any) -> int:
    """How often `value` stands at the beginning."""
    return next((at for at, part in enumerate(parts) if part != value), len(parts))


def beginning(tokenizer: Any, ids: Sequence[int]) -> tuple[int, int]:
    """Number of BOS at the beginning, white space between them left aside, and where the last one ends."""
    count, end = 0, 0
    for place, token in enumerate(ids):
        if token == tokenizer.bos_token_id:
            count, end = count + 1, place + 1
        elif tokenizer.decode([token]).strip():
            break
    return count, end


def begins_with_bos(patient: Patient, through_template: bool) -> bool:
    """Whether the template, or the tokenizer by itself, writes BOS at the beginning of a prompt."""
    tokenizer, bos = patient.tokenizer, patient.tokenizer.bos_token
    if not bos:
        return False
    if tokenizer.encode("x")[:1] == [tokenizer.bos_token_id]:
        return True
    if not (through_template and tokenizer.chat_template):
        return False
    try:
        return Prompter(patient).render([{"role": "user", "content": USER}]).startswith(bos)
    except Exception:  # one that `check_template` reports
        return False
