"""`lens doctor MODEL`: what goes wrong in a long run, looked for in a minute before it.

Prompts and tokens are made by lm_eval's own code, so what is checked is what a run would feed. A check ends
`ok`, `warning`, `failed` (a run's numbers would be wrong, or it would stop) or `skipped`, with what to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lens_eval.errors import UserError

if TYPE_CHECKING:
    from lens_eval.recipe import Backend

Outcome = Literal["ok", "warning", "failed", "skipped"]

SAMPLED = 200
"""Prompts per task whose length is measured, evenly spread; and the longest items besides."""
LONGEST = 20
CUT_SHARE = 0.01
"""Share of cut prompts above which a task fails."""
DEFAULT_MAX_GEN_TOKS = 256
"""What lm_eval's backends generate at most where a task says nothing."""
CACHE = 1.3
"""Memory to evaluate, as a factor on the weights: keys and values come on top."""
_USER, _REPLY, _SYSTEM = "USERTEXT", "REPLYTEXT", "SYSTEMTEXT"


@dataclass(frozen=True)
class Result:
    """How one check came out; `task` where it is about one."""

    check: str
    outcome: Outcome
    words: str
    """What was found, and what to do about it."""
    task: str = ""


@dataclass(frozen=True)
class Patient:
    """What is examined."""

    model: str
    """Hub id or folder of the whole model."""
    adapter: str | None
    backend: Backend
    device: str = "auto"
    tokenizer: Any = field(default=None, repr=False)
    config: Any = field(default=None, repr=False)
    generation: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """`generation_config.json`."""

    @property
    def uses_template(self) -> bool:
        """Whether a run renders prompts through the chat template."""
        if self.backend.apply_chat_template != "auto":
            return bool(self.backend.apply_chat_template)
        return bool(self.tokenizer.chat_template)

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together, as lm_eval finds them."""
        from lm_eval.models.utils import DEFAULT_MAX_LENGTH, resolve_max_length

        given = self.backend.args.get("max_length") or self.backend.args.get("max_model_len")
        return int(given or resolve_max_length(self.config, self.tokenizer, default=DEFAULT_MAX_LENGTH))


@dataclass(frozen=True)
class Prompt:
    """One request of a task: the text, and its end where an option is scored."""

    text: str
    continuation: str | None
    settings: Mapping[str, Any]
    """Generation settings; empty where an option is scored."""


@dataclass(frozen=True)
class Examination:
    """Everything found, and the prompts to be looked at."""

    results: tuple[Result, ...]
    prompts: Mapping[str, str]
    """By task: the first item's prompt as it is fed."""

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(result.outcome == "failed" for result in self.results)


def admit(model: str, adapter: str | None, backend: Backend, device: str = "auto") -> Patient:
    """Load configuration and tokenizer, no weights.

    Raises:
        UserError: no such model or adapter, or no tokenizer.
    """
    from lens_eval.sources import model_arguments
    from lens_train.layers import causal_config, checkpoint_folder, load_tokenizer, resolve_device

    resolve_device(device)
    arguments = model_arguments(model, adapter)
    name, adapter = arguments["pretrained"], arguments.get("peft")
    if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(f"no adapter in {adapter}: it holds no adapter_config.json")
    file = checkpoint_folder(name) / "generation_config.json"
    generation = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return Patient(name, adapter, backend, device, load_tokenizer(name), causal_config(name), generation)


def examine(
    patient: Patient,
    tasks: Sequence[str],
    languages: Sequence[str] = (),
    include_path: Sequence[str] = (),
    data: str | None = None,
    weights: bool = True,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Run every check.

    Args:
        tasks: lm_eval tasks or groups; a task whose items are not here is skipped with the reason.
        data: parallel training data to be looked at.
        weights: also the checks that load the model.
        on_progress: told what is being checked.

    Raises:
        UserError: an unknown task or language, or no such data.
    """
    results = [*check_template(patient), check_special_tokens(patient), check_training_prompt(patient)]
    loaded, absent = _tasks(tasks, languages, include_path)
    results += [Result("items", "skipped", reason, name) for name, reason in absent.items()]
    prompts: dict[str, str] = {}
    for task in loaded:
        on_progress(task.config.task)
        found, prompts[task.config.task] = check_task(patient, task)
        results += found
    if data is not None:
        results.append(check_data(patient, data, languages or _languages_of(loaded)))
    results.append(check_disk(patient))
    results.append(check_memory(patient))
    from lens_eval import doctor_weights

    if weights:
        on_progress("the weights")
        results += doctor_weights.check_weights(patient, loaded)
    else:
        results += [Result(name, "skipped", "--quick") for name in doctor_weights.NAMES]
    return Examination(tuple(results), prompts)


# --- template and tokens -----------------------------------------------------------------------


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
        plain = prompter.render([{"role": "user", "content": _USER}])
        again = prompter.render([{"role": "user", "content": _USER}])
    except Exception as error:  # whatever the template raises: Jinja's own errors, or those of its code
        return [Result("chat template", "failed", f"does not render a user message: {first_line(error)}")]
    faults = _message_faults(plain, again, tokenizer)
    faults += _system_faults(prompter, plain)
    if faults:
        return [Result("chat template", "failed", "; ".join(faults) + "; mend the tokenizer's chat_template")]
    if "strftime_now" in str(tokenizer.chat_template):
        words = "writes today's date into the prompt: results of two days differ; give a system message"
        return [Result("chat template", "warning", words)]
    return [Result("chat template", "ok", "every message once, the same each time")]


def _message_faults(plain: str, again: str, tokenizer: Any) -> list[str]:
    faults = [] if plain == again else ["two renderings of one message differ"]
    count = plain.count(_USER)
    if count != 1:
        faults.append(f"the user's message stands in the prompt {count} times")
    bos = tokenizer.bos_token
    if bos and bos != tokenizer.eos_token:
        pieces = plain.split(bos)
        written = _leading(pieces, "") if _marks_turns(tokenizer) else len(pieces) - 1
        if written > 1:
            faults.append(f"it writes {bos} {written} times")
    return faults


def _system_faults(prompter: Prompter, plain: str) -> list[str]:
    """A system message is written once, and the template's own gives way to it."""
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
    try:
        given = prompter.render(messages)
    except Exception:  # the template takes no system message: lm_eval then leaves it out
        return []
    count = given.count(_SYSTEM)
    faults = [f"a system message stands in the prompt {count} times"] if count > 1 else []
    own = _own_system(prompter, plain)
    if own and count and own in given:
        faults.append(f"its own system message stays beside the given one ({_short(own)})")
    return faults


def _own_system(prompter: Prompter, plain: str) -> str:
    """What the template writes before the first user turn besides BOS and the turn's own header."""
    first = [{"role": "user", "content": "FIRST"}, {"role": "assistant", "content": _REPLY}]
    try:
        end = _behind_reply(prompter.tokenizer.apply_chat_template(first, tokenize=False))
        dialogue = prompter.render([*first, {"role": "user", "content": _USER}])
    except Exception:  # a template for single turns
        return ""
    header = _behind_reply(dialogue.partition(_USER)[0]).removeprefix(end)
    bos = prompter.tokenizer.bos_token
    before = plain.partition(_USER)[0]
    before = before.replace(bos, "", 1) if bos else before
    return before.removesuffix(header).strip() if before.endswith(header) else ""


def _behind_reply(text: str) -> str:
    return text.rpartition(_REPLY)[2]


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
    ends = _ends(patient)
    last = _reply_end(patient)
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


def _ends(patient: Patient) -> set[int]:
    given = patient.generation.get("eos_token_id", getattr(patient.config, "eos_token_id", None))
    listed = given if isinstance(given, list) else [given]
    return {int(number) for number in (*listed, patient.tokenizer.eos_token_id) if number is not None}


def _reply_end(patient: Patient) -> int | None:
    """The special token that the template writes behind a reply; None where it writes none."""
    tokenizer = patient.tokenizer
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _REPLY}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # reported by `check_template`
        return None
    ids = tokenizer.encode(_behind_reply(text), add_special_tokens=False)
    return next((number for number in ids if number in tokenizer.added_tokens_decoder), None)


def check_training_prompt(patient: Patient) -> Result:
    """Lens trains on prompts framed as a run evaluates them."""
    from lens_train.config import LensConfig
    from lens_train.probe import renderer

    name, system = "training prompt", patient.backend.system_instruction
    if not patient.tokenizer.chat_template:
        return Result(name, "skipped", "no chat template")
    config = LensConfig(("en", "zh"), system_prompt=system)
    try:
        trained = renderer(patient.tokenizer, config, "train")([_USER], 64)[0]
    except UserError as error:
        return Result(name, "failed", str(error))
    messages = [{"role": "system", "content": system}] if system else []
    prompter = Prompter(patient)
    fed = prompter.encode(prompter.apply_chat_template([*messages, {"role": "user", "content": _USER}]))
    if trained == fed:
        return Result(name, "ok", "the frame is that of evaluation, token by token")
    given = prompter.chat_template_args
    advice = f"; train with template_args: {given}" if given else ""
    return Result(
        name,
        "warning",
        f"training ends on {_short(patient.tokenizer.decode(trained[-8:]))}, evaluation on "
        f"{_short(patient.tokenizer.decode(fed[-8:]))}: Lens would be trained at another place{advice}",
    )


class Prompter:
    """lm_eval's own code for prompts and tokens, without the weights that its models load."""

    backend = "causal"

    def __init__(self, patient: Patient) -> None:
        arguments = patient.backend.args
        self.tokenizer = patient.tokenizer
        self.add_bos_token: bool | None = arguments.get("add_bos_token")
        self.chat_template_args: dict[str, Any] = dict(arguments.get("chat_template_args") or {})
        if arguments.get("enable_thinking") is not None:
            self.chat_template_args["enable_thinking"] = arguments["enable_thinking"]

    @property
    def prefix_token_id(self) -> int | None:
        """What an empty context is replaced by."""
        bos = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if bos is None else bos

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The template on `messages`; raises whatever it raises."""
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **self.chat_template_args
        )

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """As lm_eval's models do it."""
        from lm_eval.models.huggingface import HFLM

        return HFLM.apply_chat_template(self, chat_history, add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text to be scored by hf, and of any text by vLLM: both have the same rule."""
        from lm_eval.models.huggingface import HFLM

        return HFLM.tok_encode(self, string, add_special_tokens)

    def encode(self, text: str, continuation: str | None = None, backend: str = "hf") -> list[int]:
        """Tokens that a backend feeds for one request."""
        from lm_eval.api.model import TemplateLM
        from lm_eval.models.huggingface import HFLM

        if continuation is not None:
            context, rest = TemplateLM._encode_pair(self, text, continuation)
            return [*context, *rest]
        if backend == "hf":
            tokens, _ = HFLM.tok_batch_encode(_Padding(self), [text])
            return tokens[0].tolist()
        return self.tok_encode(text)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """A place-holder for the first answer that a second turn is asked after."""
        return ["(the model's first answer)" for _ in requests]


class _Padding:
    """A `Prompter` whose tokenizer may pad, as lm_eval makes it."""

    backend = "causal"

    def __init__(self, prompter: Prompter) -> None:
        import copy

        self.tokenizer = copy.copy(prompter.tokenizer)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.bos_token
        self.add_bos_token = prompter.add_bos_token


# --- tasks -------------------------------------------------------------------------------------


def _tasks(
    names: Sequence[str], languages: Sequence[str], include_path: Sequence[str]
) -> tuple[list[Any], dict[str, str]]:
    """Loaded tasks, and those whose items are not here with the reason."""
    from lens_eval.evaluation import index_tasks, leaf_names, quiet

    loaded: dict[str, Any] = {}
    absent: dict[str, str] = {}
    with quiet():
        manager = index_tasks(names, include_path)
        for name in names:
            for leaf in leaf_names(manager, name, languages):
                try:
                    loaded.update({t.config.task: t for t in manager.load([leaf])["tasks"].values()})
                except Exception as error:  # whatever a task's own code says of items that are not here
                    reason, online, _ = first_line(error).partition("; go online")
                    absent[leaf] = reason + ("; go online once, or set LENS_DATA_DIR" if online else "")
    return list(loaded.values()), absent


def _languages_of(tasks: Iterable[Any]) -> tuple[str, ...]:
    codes = [str((task.config.metadata or {}).get("language", "")) for task in tasks]
    return tuple(dict.fromkeys(["en", *(code for code in codes if code)]))


def check_task(patient: Patient, task: Any) -> tuple[list[Result], str]:
    """Checks of one task, and its first prompt."""
    name = task.config.task
    try:
        prompts = requests(patient, task, patient.uses_template)
    except UserError as error:
        return [Result("prompt", "failed", str(error), name)], ""
    results = [
        _named(check_bos(patient, task, prompts[0]), name),
        _named(check_length(patient, prompts), name),
    ]
    if task.OUTPUT_TYPE == "generate_until":
        results.append(_named(check_stops(patient, task), name))
    return results, prompts[0].text


def _named(result: Result, task: str) -> Result:
    return Result(result.check, result.outcome, result.words, task)


def requests(patient: Patient, task: Any, template: bool) -> list[Prompt]:
    """Prompts of some items, the first one in front: those evenly spread, and the longest.

    Raises:
        UserError: the task refuses this way of asking.
    """
    from lens_eval.evaluation import quiet

    documents = task.eval_docs
    with quiet():
        task.set_fewshot_seed(seed=1234)
        task.build_all_requests(
            samples=_chosen(documents),
            system_instruction=patient.backend.system_instruction,
            apply_chat_template=template,
            fewshot_as_multiturn=template,
            chat_template=Prompter(patient).apply_chat_template if template else None,
            tokenizer_name="",
        )
    found = []
    for instance in task.instances:
        scored = task.OUTPUT_TYPE != "generate_until"
        text, rest = instance.args[0], instance.args[1]
        found.append(Prompt(text, rest if scored else None, {} if scored else rest))
    return found


def _chosen(documents: Any) -> list[int]:
    count = len(documents)
    spread = range(0, count, max(1, count // SAMPLED))
    longest = sorted(range(count), key=lambda i: -len(str(documents[i])))[:LONGEST]
    return sorted({0, *spread, *longest})


def check_bos(patient: Patient, task: Any, first: Prompt) -> Result:
    """One BOS for each backend, through the template and without."""
    tokenizer = patient.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return Result("one BOS", "ok", "this model has none")
    used, other = _bos_counts(patient, first), {}
    try:
        if tokenizer.chat_template:
            other = _bos_counts(patient, requests(patient, task, not patient.uses_template)[0])
    except UserError:
        pass  # a task that can be asked one way only
    expected = _expected_bos(tokenizer, patient.uses_template)
    wrong = {backend: count for backend, count in used.items() if count != expected}
    ways = ["without the template", "through the template"]
    if wrong:
        return Result(
            "one BOS", "failed", _bos_words(tokenizer, wrong, expected, ways[patient.uses_template])
        )
    unused = _expected_bos(tokenizer, not patient.uses_template)
    wrong = {backend: count for backend, count in other.items() if count != unused}
    if wrong:
        words = _bos_words(tokenizer, wrong, unused, ways[not patient.uses_template])
        return Result("one BOS", "warning", f"{words} (a run does it the other way)")
    return Result("one BOS", "ok", f"{expected} {tokenizer.bos_token} through hf and vllm")


def _expected_bos(tokenizer: Any, through_template: bool) -> int:
    """A tokenizer may name a BOS that it never writes: then none is right.

    One that opens turns is no sign for the beginning of a text without turns.
    """
    writes = _writes_bos(tokenizer) and (through_template or not _marks_turns(tokenizer))
    return int(writes or tokenizer.bos_token_id in tokenizer.encode("x"))


def _bos_counts(patient: Patient, prompt: Prompt) -> dict[str, int]:
    prompter = Prompter(patient)
    bos, turns = patient.tokenizer.bos_token_id, _marks_turns(patient.tokenizer)
    fed = {backend: prompter.encode(prompt.text, prompt.continuation, backend) for backend in ("hf", "vllm")}
    return {backend: _leading(ids, bos) if turns else ids.count(bos) for backend, ids in fed.items()}


def _leading(parts: Sequence[Any], value: Any) -> int:
    """How often `value` stands at the beginning."""
    return next((at for at, part in enumerate(parts) if part != value), len(parts))


def _marks_turns(tokenizer: Any) -> bool:
    """Whether the template opens every turn with BOS: then only those at the very beginning count."""
    return _bos_written(tokenizer, 2) > _bos_written(tokenizer, 1)


def _writes_bos(tokenizer: Any) -> bool:
    return _bos_written(tokenizer, 1) > 0


def _bos_written(tokenizer: Any, users: int) -> int:
    """How often the template writes BOS for so many user turns with replies between; 0 where it refuses."""
    if not tokenizer.chat_template or not tokenizer.bos_token:
        return 0
    user, reply = {"role": "user", "content": _USER}, {"role": "assistant", "content": _REPLY}
    turns = [user, *([reply, user] * (users - 1))]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False).count(tokenizer.bos_token)
    except Exception:  # one for single turns, or one that `check_template` reports
        return 0


def _bos_words(tokenizer: Any, wrong: Mapping[str, int], expected: int, way: str) -> str:
    counts = ", ".join(f"{count} through {backend}" for backend, count in wrong.items())
    most = max(wrong.values())
    advice = (
        "the template and the tokenizer both write one; take it out of one of them (add_bos_token=False)"
        if most > expected
        else "neither template nor tokenizer writes it; say add_bos_token=True"
    )
    return f"{tokenizer.bos_token} {counts} instead of {expected}, {way}: {advice}"


def check_length(patient: Patient, prompts: Sequence[Prompt]) -> Result:
    """Prompt and answer fit in the context."""
    prompter, limit = Prompter(patient), patient.max_length
    lengths = [len(prompter.encode(p.text, p.continuation)) for p in prompts]
    answer = max(_max_tokens(patient, prompt) for prompt in prompts)
    cut = sum(length + answer > limit for length in lengths)
    share = cut / len(lengths)
    words = f"longest prompt {max(lengths)} tokens" + (f" and {answer} of answer" if answer else "")
    if answer >= limit:
        advice = f"generate less (max_gen_toks below {limit})"
        return Result("length", "failed", f"{words}, but the context is {limit}: no prompt fits; {advice}")
    if cut:
        outcome: Outcome = "failed" if share > CUT_SHARE else "warning"
        return Result(
            "length",
            outcome,
            f"{words} in a context of {limit}: {100 * share:.1f}% of the prompts would be cut",
        )
    return Result("length", "ok", f"{words} in a context of {limit}")


def _max_tokens(patient: Patient, prompt: Prompt) -> int:
    if prompt.continuation is not None:
        return 0
    settings = {**prompt.settings, **patient.backend.gen_kwargs}
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    return int(next((settings[name] for name in names if settings.get(name)), DEFAULT_MAX_GEN_TOKS))


def check_stops(patient: Patient, task: Any) -> Result:
    """Stop strings do not stand inside the answers they should end, and name tokens that exist."""
    settings = {**(task.config.generation_kwargs or {}), **patient.backend.gen_kwargs}
    until = settings.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    documents = [task.eval_docs[i] for i in _chosen(task.eval_docs)]
    answers = [text for document in documents for text in _answers(task, document)]
    asked = [str(task.doc_to_text(document)) for document in documents]
    faults, notes = [], []
    for stop in stops:
        if not stop:
            faults.append("an empty stop string ends every answer at once")
            continue
        inside = sum(stop in answer for answer in answers)
        if inside:
            faults.append(f"{stop!r} stands in {inside} of {len(answers)} right answers and would cut them")
        if _looks_special(stop) and stop not in patient.tokenizer.get_vocab():
            notes.append(f"{stop!r} is no token of this tokenizer and never comes")
        within = sum(stop in text for text in asked)
        if within and not task.config.num_fewshot:
            notes.append(
                f"{stop!r} stands in {within} of {len(asked)} prompts: an answer that quotes it is cut"
            )
    if faults:
        return Result("stop strings", "failed", "; ".join(faults))
    if notes:
        return Result("stop strings", "warning", "; ".join(notes))
    return Result("stop strings", "ok", ", ".join(map(repr, stops)) or "the end token alone")


def _answers(task: Any, document: Any) -> Iterator[str]:
    try:
        target = task.doc_to_target(document)
    except Exception:  # a task that needs none
        return
    for text in target if isinstance(target, (list, tuple)) else [target]:
        if isinstance(text, str) and text.strip():
            yield text.strip()


def _looks_special(text: str) -> bool:
    return (text.startswith("<|") and text.endswith("|>")) or text in (
        "</s>",
        "<s>",
        "<eos>",
        "<end_of_turn>",
    )


def check_data(patient: Patient, data: str, languages: Sequence[str]) -> Result:
    """Parallel data can be read, and what is cut of it."""
    from lens_eval.mini import resolve_data
    from lens_eval.recipe import require_set
    from lens_train.config import LensConfig
    from lens_train.data import read_prompts

    require_set(data, "--data")
    limit = LensConfig(("en", "zh")).train_tokens
    try:
        prompts = read_prompts(resolve_data(data), languages)
    except UserError as error:
        return Result("training data", "failed", str(error))
    encode = patient.tokenizer.encode
    parts = []
    for code, texts in prompts.texts.items():
        cut = sum(len(encode(text, add_special_tokens=False)) > limit for text in texts) / len(texts)
        parts.append(f"{code} {100 * cut:.0f}%")
    words = f"{len(prompts)} items; longer than {limit} tokens and cut: {', '.join(parts)}"
    return Result("training data", "ok", words)


# --- machine -----------------------------------------------------------------------------------


def _weight_bytes(patient: Patient) -> int:
    """Bytes of the weights in memory, in the type that a run loads them in."""
    import torch

    from lens_train.export import find_tensors
    from lens_train.layers import checkpoint_folder

    wanted = getattr(torch, str(patient.backend.args.get("dtype", "")), None)
    places = find_tensors(checkpoint_folder(patient.model)).values()
    return sum(place.length // place.dtype.itemsize * (wanted or place.dtype).itemsize for place in places)


def check_disk(patient: Patient) -> Result:
    """A trained variant, which is as large as the model, fits on the disk."""
    import shutil

    from lens_train.export import checkpoint_bytes
    from lens_train.layers import checkpoint_folder

    size, free = checkpoint_bytes(checkpoint_folder(patient.model)), shutil.disk_usage(Path.cwd()).free
    words = f"a full variant takes {_size(size)}, {_size(free)} are free here"
    return Result("disk", "ok" if free > 1.05 * size else "failed", words)


def check_memory(patient: Patient) -> Result:
    """The model fits in the memory of the device."""
    from lens_train.layers import resolve_device
    from lens_train.stream import free_memory

    device = resolve_device(patient.device)
    need, free = CACHE * _weight_bytes(patient), free_memory(device)
    place = "GPU" if device.type == "cuda" else "machine"
    if free is None:
        return Result(
            "memory", "skipped", f"evaluation takes about {_size(need)}; what is free cannot be told"
        )
    words = f"evaluation takes about {_size(need)}, {_size(free)} are free on this {place}"
    if need < free:
        return Result("memory", "ok", words)
    return Result(
        "memory", "failed", f"{words}; several GPUs: tensor_parallel_size with vLLM, parallelize with hf"
    )


# --- words -------------------------------------------------------------------------------------


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
