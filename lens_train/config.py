"""Every setting of Lens, with its unit and its default. A wrong value is refused when it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from lens_eval.base.errors import UserError, did_you_mean
from lens_train.released import PROTOCOLS, Protocol

MOST_PROBED = 300
RATE_BY_WIDTH = 0.064
"""Learning rate times the width of a hidden state. AdamW moves every weight by about the learning rate in a
step. A hidden state sums as many weights as it has dimensions, so the rate that moves states equally far
falls with the width (Yang et al. 2022, arXiv 2203.03466). The released rate at width 4,096 and the best
measured rates at widths 640 and 128 lie within a factor of 1.6 of this."""
PASSES = 4
RETAIN = 30.0


@dataclass(frozen=True)
class LensConfig:
    """Settings of probing and training.

    With `compat: official` the defaults are those of the released code. docs/paper_to_code.md says in which
    points this project's own defaults depart from it, and why.

    Layer indices count decoder layers from 0; negative indices count from the end. `hidden[i]` is the
    output of layer i; `hidden[-1]` is taken after the final norm.
    """

    languages: tuple[str, ...]
    """Codes of all languages, the central one included."""
    central: str = "en"
    """The language that the others are aligned with. Its hidden states are retained."""
    compat: Literal["official"] | None = None
    """`official`: repeat the released code, including its faults (docs/paper_to_code.md lists them)."""

    # Probing
    rank: int | None = None
    """Dimensions of the specific subspace per layer; None = number of languages - 1, the maximum."""
    probe_items: int | Literal["auto"] = "auto"
    """Prompts per language that are probed; fewer if the data holds fewer. auto = probe until the directions
    that the losses read have settled (`lens_train.probing`), at most 300; with `compat: official` 300."""
    probe_tokens: int = 64
    """A probed prompt is cut to this many tokens, before templating."""

    # Prompts
    template: Literal["chat", "plain"] = "chat"
    """`chat`: apply the tokenizer's chat template, up to the start of the reply; `plain`: the bare text."""
    system_prompt: str | None = None
    """Content of the system message; None = no system message. With `compat: official` for training only."""
    template_args: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the chat template, e.g. `{enable_thinking: false}` for Qwen3. Give those that the
    evaluation uses."""
    train_items: int = 200
    """Parallel items trained on; fewer if the data holds fewer."""
    train_tokens: int = 128
    """A training prompt is cut to this many tokens, before templating."""

    # What is trained, and what the losses read
    trained_layers: int | tuple[int, ...] = 2
    """Number of top layers, or a list of layer indices. All other weights are frozen."""
    loss_layers: tuple[int, ...] = (-1,)
    """Layers whose hidden states the losses read. A loss over several layers is their mean."""
    scale_free: bool = True
    """Losses and directions use hidden states before the gain of the final norm. There every state of every
    model has mean square 1; see `lens_train.losses`. Not with `compat: official`."""
    displacement: float | Mapping[str, float] = 1.0
    """Factor on a language's direction (the paper's lambda): one for all languages, or one per language."""
    align_weight: float = 1.0
    """Factor on the align loss; 0 leaves the term out."""
    separate_weight: float = 1.0
    """Factor on the separate loss; 0 leaves the term out."""
    retain_weight: float | None = None
    """Factor on the retain loss; 0 leaves the term out. None = 30; with `compat: official` or without
    `scale_free` None = 1."""
    retain_over: Literal["mean", "tokens", "reply"] | None = None
    """Which states of a central prompt are retained. `mean`: the mean over its tokens, as released. `tokens`:
    the state of every token. `reply`: the state of every token, plus an equal term for the last token, where
    a reply begins. None = `reply`; with `compat: official` or without `scale_free` None = `mean`."""

    # Optimisation (AdamW)
    learning_rate: float | None = None
    """None = `RATE_BY_WIDTH` / width of a hidden state; with `compat: official` 1e-5."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    weight_decay: float = 0.1
    """Not applied to one-dimensional weights (norms, biases)."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 = no clipping."""
    epochs: int | None = None
    """Passes over the training items; None = 4, with `compat: official` 1."""
    steps: int | None = None
    """Optimizer steps, in as many passes as they need; None = as many steps as `epochs` give."""
    batch_size: int = 8
    """Parallel items per optimizer step."""
    micro_batch_size: int = 8
    """Parallel items per backward pass. A smaller number needs less memory and gives the same result."""

    # Machine
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the frozen weights and the arithmetic. Trained weights and optimizer states are always float32.
    auto = bfloat16 on a GPU that supports it, and on a CPU if the checkpoint is stored in bfloat16 and
    bfloat16 is no slower there; otherwise float32."""
    batch_tokens: int = 4096
    """Most tokens per forward pass, padding included; at most 1024 on a CPU. For speed and memory only."""
    stream: Literal["auto", "always", "never"] = "auto"
    """Read layers from disk one at a time instead of holding the model; auto = if it does not fit."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: a wrong value; the message names the setting, the value and the possible values.
        """
        if self.retain_weight is None:
            object.__setattr__(self, "retain_weight", RETAIN if self.in_units else 1.0)
        if self.retain_over is None:
            object.__setattr__(self, "retain_over", "reply" if self.in_units else "mean")
        for name in ("languages", "loss_layers"):
            value = getattr(self, name)
            several = isinstance(value, (list, tuple, set, range))
            object.__setattr__(self, name, tuple(value) if several else (value,))
        if isinstance(self.trained_layers, (list, range)):
            object.__setattr__(self, "trained_layers", tuple(self.trained_layers))
        if self.rank is not None:
            _require("rank", self.rank, int, 1)
        self._check_layers()
        self._check_languages()
        self._check_numbers()
        self._check_choices()
        if not (self.align_weight or self.separate_weight or self.retain_weight):
            raise UserError(
                "align_weight, separate_weight and retain_weight are all 0: there is nothing to train"
            )

    @property
    def others(self) -> tuple[str, ...]:
        """All languages except the central one."""
        return tuple(code for code in self.languages if code != self.central)

    @property
    def most_probed(self) -> int:
        """Most prompts per language that are probed."""
        return MOST_PROBED if isinstance(self.probe_items, str) else self.probe_items

    @property
    def subspace_rank(self) -> int:
        """Rank of the specific subspace."""
        return len(self.languages) - 1 if self.rank is None else self.rank

    @property
    def in_units(self) -> bool:
        """Whether states are measured in units of their layer."""
        return self.scale_free and self.protocol.measures_in_units

    @property
    def passes(self) -> int:
        """Passes over the training items."""
        return self.epochs or self.protocol.passes or PASSES

    def for_width(self, width: int) -> LensConfig:
        """The settings for a model of hidden width `width`, with numbers for learning rate and passes."""
        rate = self.learning_rate
        if rate is None:
            rate = self.protocol.rate or float(f"{RATE_BY_WIDTH / width:.3g}")
        return replace(self, learning_rate=rate, epochs=self.passes)

    @property
    def protocol(self) -> Protocol:
        """The protocol to follow: this project's, or that of the released code, including its faults."""
        # `__post_init__` reads this before it checks `compat`, so a wrong name must not fail here.
        return PROTOCOLS.get(self.compat, PROTOCOLS[None])

    def displacement_of(self, language: str) -> float:
        """Factor on the direction of `language`."""
        return (
            self.displacement.get(language, 1.0)
            if isinstance(self.displacement, Mapping)
            else self.displacement
        )

    @staticmethod
    def build(languages: tuple[str, ...], central: str, settings: Mapping[str, Any]) -> LensConfig:
        """Make a config from the settings of a recipe or a `Job`.

        Raises:
            UserError: an unknown setting (the message lists the known ones) or a wrong value.
        """
        known = [each.name for each in fields(LensConfig)]
        for name in settings:
            if name not in known:
                raise UserError(
                    f"unknown Lens setting {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"
                )
        texts = {each.name for each in fields(LensConfig) if str(each.type).startswith("str")}
        given = {name: value if name in texts else as_number(value) for name, value in settings.items()}
        return LensConfig(languages=languages, central=central, **given)

    def _check_languages(self) -> None:
        if self.central not in self.languages:
            raise UserError(
                f"the central language {self.central!r} is not among the languages {list(self.languages)}"
            )
        if len(set(self.languages)) != len(self.languages):
            raise UserError(f"a language is named twice: {list(self.languages)}")
        if len(self.languages) < 2:
            raise UserError(f"Lens needs at least two languages, got {list(self.languages)}")
        if not 1 <= self.subspace_rank <= len(self.languages) - 1:
            raise UserError(
                f"rank {self.rank} is not between 1 and {len(self.languages) - 1} (languages - 1)"
            )
        if isinstance(self.displacement, Mapping):
            unknown = sorted(set(self.displacement) - set(self.languages))
            if unknown:
                raise UserError(f"displacement names {unknown}, which are not among {list(self.languages)}")

    def _check_layers(self) -> None:
        trained = self.trained_layers
        if isinstance(trained, tuple):
            _require_some("trained_layers", trained)
            for layer in trained:
                _require("trained_layers", layer, int, None)
        else:
            _require("trained_layers", trained, int, 1)
        _require_some("loss_layers", self.loss_layers)
        for layer in self.loss_layers:
            _require("loss_layers", layer, int, None)

    def _check_numbers(self) -> None:
        if self.probe_items != "auto":
            _require("probe_items", self.probe_items, int, 1)
        positive = ("probe_tokens", "train_items", "train_tokens", "batch_size")
        for name in (*positive, "micro_batch_size", "batch_tokens"):
            _require(name, getattr(self, name), int, 1)
        for name in ("steps", "epochs"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), int, 1)
        if self.learning_rate is not None:
            _require("learning_rate", self.learning_rate, (int, float), 0)
        for name in (
            "align_weight",
            "separate_weight",
            "retain_weight",
            "weight_decay",
            "clip_norm",
        ):
            _require(name, getattr(self, name), (int, float), 0)
        _require("warmup", self.warmup, (int, float), 0)
        if self.warmup >= 1:
            raise UserError(f"warmup is a share of the steps, from 0 to below 1; got {self.warmup}")
        factors = (
            self.displacement.values() if isinstance(self.displacement, Mapping) else [self.displacement]
        )
        for factor in factors:
            _require("displacement", factor, (int, float), None)

    def _check_choices(self) -> None:
        choices: dict[str, tuple[str | None, ...]] = {
            "compat": tuple(PROTOCOLS),
            "template": ("chat", "plain"),
            "retain_over": ("mean", "tokens", "reply"),
            "schedule": ("cosine", "linear", "constant"),
            "dtype": ("auto", "float32", "bfloat16"),
            "stream": ("auto", "always", "never"),
        }
        if not isinstance(self.scale_free, bool):
            raise UserError(f"scale_free is {self.scale_free!r}; possible: true, false")
        if self.system_prompt is not None and not isinstance(self.system_prompt, str):
            raise UserError(f"system_prompt is {self.system_prompt!r}; give a text")
        if not isinstance(self.template_args, Mapping):
            raise UserError(f"template_args is {self.template_args!r}; give `name: value` lines")
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UserError(f"{name} is {getattr(self, name)!r}; possible: {', '.join(map(str, known))}")


def as_number(value: Any) -> Any:
    """The number of a text such as `1e-4`, which YAML 1.1 leaves a text; everything else as it is."""
    if isinstance(value, str) and _SCIENTIFIC.fullmatch(value.strip()):
        return float(value)
    return value


def is_finite(value: float) -> bool:
    """Whether a number is one that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


_SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def _require_some(name: str, layers: tuple[int, ...]) -> None:
    if not layers:
        raise UserError(f"{name} names no layer; leave it out, or name some")


def _require(name: str, value: Any, kind: Any, least: float | None) -> None:
    wrong = isinstance(value, bool) or not isinstance(value, kind) or not is_finite(value)
    if wrong or (least is not None and value < least):
        number = "a whole number" if kind is int else "a number"
        bound = "" if least is None else f" of at least {least}"
        raise UserError(f"{name} must be {number}{bound}, got {value!r}")
