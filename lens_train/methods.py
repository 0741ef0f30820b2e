"""The training methods: what is known of each before its code is loaded, and the checks before it starts.

A method is one module with a function `train(job: Job) -> None` that fills `job.output`. To add one, write
the module and its `Method` below. Your own method is named `module:function` on the command line; its module
may hold a mapping `SETTINGS` from the function's name to the frozen dataclass of its settings.

Importing this module loads no method and no torch.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import holds_nothing, lock, make_folder, write_text
from lens_eval.base.reading import read_object
from lens_eval.base.redaction import without_secrets
from lens_train.config import as_number, is_finite
from lens_train.job import VARIANT_FILE, Job


@dataclass(frozen=True)
class Method:
    """A training method: what help, recipes, plans and runs know of it before its code is loaded."""

    function: str
    """`module:function`; the function is called with a `Job`."""
    help: str = "a method of your own"
    """What it does, in a few words."""
    settings: str = ""
    """`module:class` of its settings, a frozen dataclass; empty: the method reads them by itself."""
    paths: tuple[str, ...] = ()
    """Settings that name a file or folder."""
    maybe_paths: tuple[str, ...] = ()
    """Settings that name a file if they end in `.jsonl` or `.json`, and something else if not."""
    writes: Literal["checkpoint", "adapter", "steering", "decoding"] = "checkpoint"
    """What it leaves. All but a checkpoint are small and applied to the backbone."""
    work: Literal["unknown", "lens", "probing", "reading", "tuning", "none"] = "unknown"
    """What it does with the model, by which its time is estimated: probe and train top layers; probe prompts;
    read texts; be tuned on examples with answers; nothing."""
    items: int | None = 200
    """Of tuning: parallel items, unless its settings say otherwise; None: all."""
    passes: float = 1.0
    """Of tuning: examples that are made of one item in one language."""
    own_answers: bool = False
    """Of tuning: whether the model answers each item itself first."""
    trained_share: float = 1.0
    """Share of the model's parameters that are trained."""
    gradient_share: float = 1.0
    """Of tuning: share of the layers that gradients pass through."""

    def is_path(self, name: str, value: Any) -> bool:
        """Whether a setting names a file or folder."""
        if not isinstance(value, str) or not value:
            return False
        return name in self.paths or (name in self.maybe_paths and value.endswith((".jsonl", ".json")))


TOP_SHARE = 0.07
"""Of the parameters: two layers of 32, without embeddings."""
_SFT, _STEERING = "lens_train.baselines.sft:", "lens_train.steering."
_TUNING = "lens_train.baselines.tuning:TuningSettings"
_READER: dict[str, Any] = {"paths": ("text",), "writes": "steering", "work": "reading", "trained_share": 0.0}

METHODS: dict[str, Method] = {
    "lens": Method(
        "lens_train.lens:train",
        "the paper's method, from prompts alone",
        paths=("subspaces", "probe_data", "dev_data"),
        work="lens",
        trained_share=TOP_SHARE,
    ),
    "xsft": Method(_SFT + "train", "all weights tuned on answers", _TUNING, work="tuning"),
    "xsft_top": Method(
        _SFT + "train",
        "the top layers tuned on answers",
        _SFT + "TopSettings",
        work="tuning",
        trained_share=TOP_SHARE,
        gradient_share=TOP_SHARE,
    ),
    "xsft_lora": Method(
        _SFT + "train",
        "an adapter tuned on answers",
        _SFT + "LoraSettings",
        writes="adapter",
        work="tuning",
        trained_share=0.01,
    ),
    "xsft_large": Method(
        _SFT + "train", "all weights tuned on all answers", _SFT + "LargeSettings", work="tuning", items=None
    ),
    "sdrrl": Method(
        "lens_train.baselines.sdrrl:train",
        "own answers, translated",
        "lens_train.baselines.sdrrl:SdrrlSettings",
        paths=("dictionary", "parallel_text"),
        maybe_paths=("translator",),
        work="tuning",
        passes=3.0,
        own_answers=True,
    ),
    "qalign": Method(
        "lens_train.baselines.qalign:train",
        "questions translated, then answers",
        _TUNING,
        work="tuning",
    ),
    "steer": Method(
        _STEERING + "steer:train",
        "subspaces removed and put back",
        _STEERING + "steer:SteerSettings",
        paths=("subspaces",),
        writes="steering",
        work="probing",
        trained_share=0.0,
    ),
    "diffmean": Method(
        _STEERING + "diffmean:train",
        "a difference of means added",
        _STEERING + "diffmean:DiffMeanSettings",
        **_READER,
    ),
    "recover": Method(
        _STEERING + "recover:train",
        "language vectors added",
        _STEERING + "recover:RecoverSettings",
        **_READER,
    ),
    "liseco": Method(
        _STEERING + "liseco:train",
        "states lifted over a probe's border",
        _STEERING + "liseco:LisecoSettings",
        **_READER,
    ),
    "bias": Method(
        "lens_train.decoding.bias:train",
        "tokens of the script preferred",
        "lens_train.decoding.bias:BiasSettings",
        writes="decoding",
        work="none",
        trained_share=0.0,
    ),
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


def method_of(name: str) -> Method:
    """The facts of a method. Your own is not imported for them.

    Its settings that are called like paths of the methods above are taken for paths.
    """
    every = (path for method in METHODS.values() for path in method.paths)
    return METHODS.get(name) or Method(name, paths=tuple(dict.fromkeys(every)))


def input_files(method: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings that name files or folders: setting -> path. Of your own method, all that name one."""
    known = method_of(method)
    return {
        name: value
        for name, value in settings.items()
        if known.is_path(name, value) or (method not in METHODS and _is_there(value))
    }


def _is_there(value: Any) -> bool:
    """Whether a value names a file, or a folder by more than one word, which may be an ordinary one."""
    try:
        return isinstance(value, str) and (Path(value).is_file() or ("/" in value and Path(value).is_dir()))
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def load(method: str) -> tuple[types.ModuleType, str]:
    """Import the module of a method; returns it with the name of its function.

    Raises:
        UserError: the method is unknown, or `module:function` does not exist.
    """
    name, colon, function = method_of(method).function.partition(":")
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
    """The dataclass of a method's settings; None if it reads them by itself."""
    own, function = load(method)
    module, _, name = method_of(method).settings.partition(":")
    if name:
        return getattr(importlib.import_module(module), name)
    declared: Mapping[str, type] = getattr(own, "SETTINGS", {})
    return declared.get(function)


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
    """Number of this process among those of `accelerate launch` or `torchrun`; 0 writes the files."""
    return _launched()[0]


def processes() -> int:
    """How many processes `accelerate launch` or `torchrun` has started; 1 where neither has."""
    return _launched()[1]


def _launched() -> tuple[int, int]:
    """Number of this process, and how many there are.

    A process that is alone is number 0 of 1, whatever a shell or a queue has left in the environment:
    launchers set all three variables, and accelerate goes by the last.
    """
    number, world, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    together = number.isdecimal() and world.isdecimal() and local.isdecimal() and int(world) > 1
    return (int(number), int(world)) if together else (0, 1)


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
    return float(value) if isinstance(value, int | float) and is_finite(value) else None


def _plain(value: Any, hint: type, what: str) -> Any:
    if hint is float:
        number = None if isinstance(value, bool) else _number(value)
        if number is not None:
            return number
    elif hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
    elif isinstance(value, hint):
        return value
    kind = "a finite float" if hint is float else hint.__name__
    raise UserError(f"{what} is {value!r}; {kind} was expected")
