"""Checks of each task: its prompts, their length, what they begin with, and where replies end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.patient import Outcome, Patient, Prompt, Prompter, Result, first_line
from lens_eval.doctor.template_checks import beginning, begins_with_bos

BOS = "one BOS"
SAMPLED = 200
"""Prompts per task whose length is measured, evenly spread; and the longest items besides."""
LONGEST = 20
CUT_SHARE = 0.01
"""Share of cut prompts above which a task fails."""
DEFAULT_MAX_GEN_TOKS = 256
"""What lm_eval's backends generate at most where a task says nothing."""


def find_tasks(
    names: Sequence[str], languages: Sequence[str], include_path: Sequence[str]
) -> tuple[list[Any], dict[str, str]]:
    """Loaded tasks, and those whose items are not here with the reason."""
    from lens_eval.runs.task_index import index_tasks, leaf_names
    from lens_eval.upstream.evaluation import quiet

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


def languages_of(tasks: Iterable[Any]) -> tuple[str, ...]:
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
    from lens_eval.upstream.evaluation import quiet

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
    """No doubled BOS, and the same number through both backends. The weights tell whether it is right."""
    tokenizer = patient.tokenizer
    if tokenizer.bos_token_id is None:
        return Result(BOS, "ok", "this model has none")
    used, other = _bos_counts(patient, first), {}
    try:
        if tokenizer.chat_template:
            other = _bos_counts(patient, requests(patient, task, not patient.uses_template)[0])
    except UserError:
        pass  # a task that can be asked one way only
    ways = {True: "through the template", False: "without the template"}
    for counts, template, note in (
        (used, patient.uses_template, ""),
        (other, not patient.uses_template, " (a run does it the other way)"),
    ):
        words = f"{tokenizer.bos_token} {_counted(counts)}, {ways[template]}"
        if counts and max(counts.values()) > 1:
            advice = "the template and the tokenizer both write one; take it out of one (add_bos_token=False)"
            return Result(BOS, "warning" if note else "failed", f"{words}: {advice}{note}")
        if len(set(counts.values())) > 1:
            return Result(BOS, "warning" if note else "failed", f"{words}: say add_bos_token{note}")
        if counts and begins_with_bos(patient, template) and not any(counts.values()):
            advice = (
                "the template or the tokenizer would write one; say add_bos_token=True if the weights need it"
            )
            return Result(BOS, "warning", f"{words}: {advice}{note}")
    return Result(BOS, "ok", f"{used['hf']} {tokenizer.bos_token} through hf and vllm")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} through {backend}" for backend, count in counts.items())


def _bos_counts(patient: Patient, prompt: Prompt) -> dict[str, int]:
    """BOS tokens at the beginning of a prompt, by backend; further on, they may open the turns."""
    prompter = Prompter(patient)
    return {
        backend: beginning(patient.tokenizer, prompter.encode(prompt.text, prompt.continuation, backend))[0]
        for backend in ("hf", "vllm")
    }


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
