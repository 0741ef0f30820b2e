"""The training methods by name, and the checks before any of them starts.

A method is one module with a function `train(job: Job) -> None` that fills `job.output`, and a
mapping `SETTINGS` from method name to the frozen dataclass of its settings. To add one, write the
module and name it below, or name it on the command line as `module:function`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import holds_nothing, lock, make_folder, write_text
from lens_eval.base.reading import read_object
from lens_eval.base.redaction import without_secrets
from lens_train.config import as_number
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
    # Of several processes the first holds the folder for all.
    with lock(job.output) if not process() else nullcontext():
        check_output(job)  # another run may have ended here meanwhile
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
            ""
            if error.name == name
            else "; the training methods need `pip install 'lens-multilingual[train]'`"
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
    if holds_nothing(output):
        return
    if (output / VARIANT_FILE).exists():
        raise UserError(f"output {output} holds a finished variant; name another folder, or remove it first")
    if not (output / JOB_FILE).is_file():
        raise UserError(f"output {output} is not empty and holds no run; name another folder")
    before, now = read_object(output / JOB_FILE, "description of a run"), describe(job)
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
    return without_secrets(json.loads(json.dumps(plain, sort_keys=True, default=str)))


def begin(job: Job) -> None:
    """Write the run's description into its folder, so that the run can resume after a kill."""
    if process():
        return
    file = job.output / JOB_FILE
    make_folder(file.parent, below=job.output)
    write_text(file, json.dumps(describe(job), indent=2, ensure_ascii=False) + "\n")


def process() -> int:
    """Number of this process among those of `accelerate launch` or `torchrun`; 0 writes the files.

    A process that is alone is number 0, whatever `RANK` a shell or a queue has left in the environment.
    """
    world, number = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK"))
    return int(number) if world.isdecimal() and int(world) > 1 and number.isdecimal() else 0


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


def _number(value: Any) -> float | None:
    """A finite number, also as YAML 1.1 leaves `1e-4`: a text; None for everything else."""
    value = as_number(value)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _plain(value: Any, hint: type, what: str) -> Any:
    if hint is float and not isinstance(value, bool):
        number = _number(value)
        if number is not None:
            return number
    if hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
    elif isinstance(value, hint):
        return value
    raise UserError(f"{what} is {value!r}; {hint.__name__} was expected")
