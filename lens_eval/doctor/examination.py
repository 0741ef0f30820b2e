"""`lens doctor MODEL`: what goes wrong in a long run, looked for in a minute before it.

Prompts and tokens are made by lm_eval's own code, so what is checked is what a run would feed. A check ends
`ok`, `warning`, `failed` (a run's numbers would be wrong, or it would stop) or `skipped`, with what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lens_eval.doctor.machine_checks import check_data, check_disk, check_memory
from lens_eval.doctor.patient import Patient, Result, isolated
from lens_eval.doctor.task_checks import check_task, find_tasks, languages_of
from lens_eval.doctor.template_checks import (
    check_special_tokens,
    check_template,
    check_training_prompt,
)


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
    results = [
        *_rows(isolated("chat template", lambda: check_template(patient))),
        isolated("special tokens", lambda: check_special_tokens(patient)),
        isolated("training prompt", lambda: check_training_prompt(patient)),
    ]
    loaded, absent = find_tasks(tasks, languages, include_path)
    results += [Result("items", "skipped", reason, name) for name, reason in absent.items()]
    prompts: dict[str, str] = {}
    for task in loaded:
        on_progress(task.config.task)
        found = isolated("prompt", partial(check_task, patient, task), task.config.task)
        if isinstance(found, Result):
            results.append(found)
        else:
            results += found[0]
            prompts[task.config.task] = found[1]
    if data is not None:
        asked = languages or languages_of(loaded)
        results.append(isolated("training data", lambda: check_data(patient, data, asked)))
    results.append(isolated("disk", lambda: check_disk(patient)))
    results.append(isolated("memory", lambda: check_memory(patient)))
    from lens_eval.doctor import weight_checks

    if weights:
        on_progress("the weights")
        results += weight_checks.check_weights(patient, loaded)
    else:
        results += [Result(name, "skipped", "--quick") for name in weight_checks.NAMES]
    return Examination(tuple(results), prompts)


def _rows(found: list[Result] | Result) -> list[Result]:
    return [found] if isinstance(found, Result) else found
