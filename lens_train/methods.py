"""The training methods by name, and the checks before any of them starts.

A method is one module with a function `train(job: Job) -> None` that fills `job.output`, and a
mapping `SETTINGS` from method name to the frozen dataclass of its settings. To add one, write the
module and name it below, or name it on the command line as `module:function`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import write_text
from lens_train.job import VARIANT_FILE, Job

METHODS: dict[str, str] = {
    "lens": "lens_train.lens:train",
    "xsft": "lens_train.baselines.sft:train",
    "xsft_top": "lens_train.baselines.sft:train",
    "xsft_lora": "lens_train.baselines.sft:train",
    "xsft_large": "lens_train.baselines.sft:train",
    "sdrrl": "lens_train.baselines.sdrrl:train",
    "qalign": "lens_train.baselines.qalign:train",
    "steer": "lens_train.steering.steer:train",
    "diffmean": "lens_train.steering.diffmean:train",
    "recover": "lens_train.steering.recover:train",
    "liseco": "lens_train.steering.liseco:train",
    "bias": "lens_train.decoding.bias:train",
}

JOB_FILE = Path("training") / "job.json"
"""Description of a run, so that only the same job resumes in its folder."""

Settings = TypeVar("Settings")


def train(job: Job) -> None:
    """Check `job` and run its method.

    Raises:
        UserError: a method or setting is unknown, a setting has the wrong type, or the output folder
            holds something else; nothing has been done or written then.
    """
    module, function = load(job.method)
    settings_type = settings_of(job.method)
    if settings_type is not None:
        read_settings(settings_type, job.settings, job.method)
    check_output(job)
    from lens_train.memory import reset_peak

    reset_peak()
    if job.method not in METHODS:
        begin(job)  # so that a user's own method can be killed and started again, too
    getattr(module, function)(job)


def load(method: str) -> tuple[types.ModuleType, str]:
    """Import the module of a method; returns it with the name of its function.

    Raises:
        UserError: the method is unknown, or `module:function` does not exist.
    """
    reference = METHODS.get(method, method)
    name, colon, function = reference.partition(":")
    if not colon:
        raise UserError(
            f"unknown method {method}{did_you_mean(method, METHODS)}; there are {', '.join(METHODS)}, "
            "and your own as module:function"
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        extra = (
            "" if error.name == name else "; the training methods need `pip install lens-multilingual[train]`"
        )
        raise UserError(f"method {method}: {error}{extra}") from None
    if not callable(getattr(module, function, None)):
        raise UserError(f"method {method}: {name} has no function {function}")
    return module, function


def settings_of(method: str) -> type | None:
    """The dataclass of a method's settings; None if its module declares none."""
    module, function = load(method)
    declared: Mapping[str, type] = getattr(module, "SETTINGS", {})
    return declared.get(method, declared.get(function))


def read_settings(kind: Callable[..., Settings], given: Mapping[str, Any], method: str) -> Settings:
    """Fill the settings dataclass `kind` from plain values (YAML, command line).

    Raises:
        UserError: a key is unknown (the message lists the known ones), or a value has another type.
    """
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    for key in given:
        if key not in fields:
            raise UserError(
                f"method {method} has no setting {key}{did_you_mean(key, fields)}; it has {', '.join(fields)}"
            )
    return kind(
        **{key: _value(value, hints[key], f"{method}: setting {key}") for key, value in given.items()}
    )


def check_output(job: Job) -> None:
    """Refuse an output folder that holds anything except an interrupted run of the same job.

    Raises:
        UserError: the folder holds a finished variant, another run, or other files.
    """
    output = job.output
    if process():
        return  # the first process checks for all
    if output.exists() and not output.is_dir():
        raise UserError(f"output {output} is a file; name a folder that does not exist yet")
    if not output.exists() or not any(output.iterdir()):
        return
    if (output / VARIANT_FILE).exists():
        raise UserError(f"output {output} holds a finished variant; name another folder, or remove it first")
    if not (output / JOB_FILE).exists():
        raise UserError(f"output {output} is not empty and holds no run; name another folder")
    before, now = json.loads((output / JOB_FILE).read_text(encoding="utf-8")), describe(job)
    changed = sorted(key for key in now if before.get(key) != now[key])
    if changed:
        raise UserError(
            f"output {output} holds an interrupted run of another job (it differs in {', '.join(changed)}); "
            "name another folder, or remove it first"
        )


def describe(job: Job) -> dict[str, Any]:
    """The values that identify a run, as plain JSON; equal values mean the same run."""
    plain = {**dataclasses.asdict(job), "data": str(job.data), "settings": dict(job.settings)}
    plain.pop("output")
    return json.loads(json.dumps(plain, sort_keys=True, default=str))


def begin(job: Job) -> None:
    """Write the run's description into its folder, so that the run can resume after a kill."""
    if process():
        return
    file = job.output / JOB_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(describe(job), indent=2, ensure_ascii=False) + "\n")


def process() -> int:
    """Number of this process among those of `accelerate launch` or `torchrun`; 0 writes the files."""
    return int(os.environ.get("RANK", 0))


def _value(value: Any, hint: Any, what: str) -> Any:
    """Convert `value` to type `hint`: YAML gives ints for floats and lists for tuples."""
    choices = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value not in choices:
            raise UserError(f"{what} is {value!r}; it can be {', '.join(map(str, choices))}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in choices:
            return None
        return _value(value, next(choice for choice in choices if choice is not type(None)), what)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{what} is {value!r}; a list was expected")
        return tuple(_value(entry, choices[0], what) for entry in value)
    return _plain(value, hint, what)


def _plain(value: Any, hint: type, what: str) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
    elif isinstance(value, hint):
        return value
    raise UserError(f"{what} is {value!r}; {hint.__name__} was expected")
