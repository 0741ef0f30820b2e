"""Seconds and bytes of the parts of a run, for `lens reproduce --plan`.

Operations are counted from the shape of the model and the lengths of the texts; speeds of a CPU are measured
with two short products, those of a GPU are those of a data-centre one. What is estimated is meant to be
within a factor of two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens_eval.mini import resolve_data, resolve_model
from lens_eval.runs.recipe import Recipe, Row
from lens_train.gguf import is_gguf
from lens_train.methods import method_of

PROMPT_TOKENS = 200
"""Of one request, where the items are not here: the middle of the tasks of this project."""
ANSWER_TOKENS = 200
"""Of one reply in words, which few tasks bound more closely."""
TEMPLATE_TOKENS = 20
"""What a chat template adds to a prompt."""
TRAIN_PROMPT_TOKENS = 40
"""Of one training prompt, where the data are not here."""
PAIR_TOKENS = 300
"""A prompt with its answer, as the fine-tuned baselines see it."""
CHARACTERS = 3.0
"""Per token, where the tokenizer is not here."""
SAMPLE = 16
"""Texts that are read to know how long they are."""

GPU_SPEED, GPU_BANDWIDTH = 1e14, 1.5e12
"""Useful operations per second of a data-centre GPU on batches; bytes of weights that it reads per second."""
EFFICIENCY = 0.55
"""Of a bare product's speed, what a whole layer reaches on a CPU."""
STEP_SECONDS = {"cpu": 4e-4, "gpu": 5e-5}
"""Of one layer in one step of generation besides its products."""
READ_SPEED = 1e9
"""Bytes of weights per second from disk."""
START_SECONDS = {"hf": 10.0, "vllm": 60.0}
"""Of a backend, besides reading the weights."""
TRAIN_START_SECONDS = 8.0
"""Of a training: imports, checks, hashes, writing."""
VLLM_BATCH, HF_BATCH = 256, 8
"""Replies that are written side by side; hf where the recipe says `auto`."""

BF16_BYTES = 2
ADAM_BYTES = {"float32": 16, "bfloat16": 8}
"""Per trained parameter: weight, gradient and two moments."""
ACTIVATIONS = 1.15
"""Memory for what a training step holds besides, as a factor."""
DEFAULT_LAYERS = 2
"""Top layers that are trained where settings name none."""
SETTLED = 120
"""Items per language after which directions have settled as a rule."""
NAMED_SIZES = {"phi-3.5-mini": 3.8e9}
"""Parameters of models whose names do not say."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides its cost."""

    layers: int
    inner: int
    """Parameters of all decoder layers."""
    output: int
    """Parameters of the output matrix: its products are needed where a token is chosen or scored."""
    total: int
    """All parameters, each once."""
    bfloat16: bool = True
    """Whether the weights are stored in bfloat16, as those of nearly all models on the hub are."""

    @property
    def layer(self) -> float:
        """Parameters of one decoder layer."""
        return self.inner / self.layers


@dataclass(frozen=True)
class Machine:
    """How fast products are."""

    kind: str
    """`cpu` or `gpu`."""
    speed: Mapping[str, float]
    """Useful operations per second by type of the weights."""
    bandwidth: float
    """Bytes of weights per second that a product of one row reads."""

    @staticmethod
    def gpu() -> Machine:
        """A data-centre GPU."""
        return Machine("gpu", {"float32": GPU_SPEED / 4, "bfloat16": GPU_SPEED}, GPU_BANDWIDTH)

    @staticmethod
    @lru_cache(maxsize=1)
    def cpu() -> Machine:
        """This machine's processor, as timed with short products of all threads."""
        import torch

        from lens_train.devices import product_seconds

        weight = (8192, 2048)  # larger than the caches
        dtypes = {name: getattr(torch, name) for name in ("float32", "bfloat16")}
        seconds = product_seconds(list(dtypes.values()), 256, weight, 5)
        one_row = product_seconds([torch.float32], 1, weight, 5)[torch.float32]
        work = torch.get_num_threads() * math.prod(weight)
        speed = {name: EFFICIENCY * 2 * 256 * work / seconds[dtype] for name, dtype in dtypes.items()}
        # One row reads every weight once.
        return Machine("cpu", speed, 4 * work / one_row)


# --- models ------------------------------------------------------------------------------------


LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|blk)\.(\d+)\.")
"""Names of the tensors of decoder layers."""


def _count(model: str, tensors: Mapping[str, tuple[int, ...]]) -> int | None:
    """Number of parameters: of the tensors if there are any, else from a name like `Llama-3-8B`."""
    if tensors:
        return sum(map(math.prod, tensors.values()))
    for name, count in NAMED_SIZES.items():
        if name in model.lower():
            return int(count)
    found = re.search(r"(\d+(?:\.\d+)?)\s*([bm])\b", model.lower().replace("-", " ").replace("_", " "))
    return int(float(found[1]) * (1e9 if found[2] == "b" else 1e6)) if found else None


def shape_of(model: str) -> Shape | None:
    """The shape from the weight files' headers; for a name with a size in it that of a Llama of that size."""
    tensors = tensor_shapes(model)
    total = _count(model, tensors)
    if total is None:
        return None
    layers = {name: found[1] for name in tensors if (found := LAYER.search(name))}
    if not layers:
        return Shape(32, int(0.87 * total), int(0.065 * total), total)
    inner = sum(math.prod(tensors[name]) for name in layers)
    rest = [math.prod(shape) for name, shape in tensors.items() if name not in layers and len(shape) == 2]
    return Shape(len(set(layers.values())), inner, max(rest, default=0), total, _in_bfloat16(model))


def _in_bfloat16(model: str) -> bool:
    """Whether a model that is here is stored in bfloat16; a GGUF file is converted to it."""
    folder = model_folder(model)
    if folder is None:
        return True
    from lens_eval.base.errors import UserError
    from lens_train.checkpoint import Checkpoint

    try:
        return str(Checkpoint.open(str(folder)).config.dtype).endswith("bfloat16")
    except UserError:  # said by the run itself
        return True


def is_here(model: str) -> bool:
    """Whether the weights are on this machine: a GGUF file, or a folder as `model_folder` finds it."""
    return (is_gguf(model) and Path(model).is_file()) or model_folder(model) is not None


def model_folder(model: str) -> Path | None:
    """The local folder of a model, from the hub's cache too; nothing is downloaded."""
    local = Path(resolve_model(model))
    if local.is_dir():
        return local if any(local.glob("*.safetensors")) else None
    from huggingface_hub import try_to_load_from_cache

    hub = model.count("/") == 1 and not model.startswith((".", "/"))
    found = try_to_load_from_cache(model, "config.json") if hub else None
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and any(folder.glob("*.safetensors")) else None


def tensor_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a folder or a GGUF file, from the headers alone; empty: not here."""
    if is_gguf(model) and Path(model).is_file():
        from lens_train.gguf.header import read_header

        return {name: entry.shape for name, entry in read_header(Path(model)).tensors.items()}
    folder = model_folder(model)
    if folder is None:
        return {}
    from lens_train.checkpoint import weight_files
    from lens_train.files import tensor_entries

    entries = [tensor_entries(file)[1] for file in weight_files(folder)]
    return {name: tuple(entry["shape"]) for own in entries for name, entry in own.items()}


def token_counter(model: str) -> Callable[[str], float]:
    """Tokens of a text: with the model's own tokenizer where it is here."""
    if model_folder(model) is not None:
        from lens_eval.base.errors import UserError
        from lens_train.checkpoint import Checkpoint

        try:
            tokenizer = Checkpoint.open(model).tokenizer
        except UserError:  # said by the run itself
            return lambda text: len(text) / CHARACTERS
        return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return lambda text: len(text) / CHARACTERS


def mean_tokens(texts: Sequence[str], count: Callable[[str], float]) -> float:
    """Mean over evenly spaced texts."""
    step = max(1, len(texts) // SAMPLE)
    lengths = [count(text) for text in texts[::step]]
    return sum(lengths) / len(lengths)


# --- evaluation --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What one task asks of a model."""

    items: int
    prompt_tokens: float
    requests: int = 1
    """Passes per item."""
    answer_tokens: int = 0
    """Generated per item; 0: options are scored."""


def evaluation_seconds(recipe: Recipe, loads: Sequence[Load], shape: Shape, machine: Machine) -> float:
    """Seconds to evaluate one variant, start of the backend included."""
    batch = recipe.backend.batch_size
    rows = VLLM_BATCH if recipe.backend.model == "vllm" else batch if isinstance(batch, int) else HF_BATCH
    dtype = str(recipe.backend.args.get("dtype", "bfloat16"))
    seconds = START_SECONDS[recipe.backend.model] + shape.total * BF16_BYTES / READ_SPEED
    for load in loads:
        tokens = load.items * load.requests * load.prompt_tokens
        seconds += 2 * tokens * (shape.inner + shape.output) / _speed(machine, dtype)
        if load.answer_tokens:
            together = min(rows, load.items)
            seconds += write_seconds(load.items, load.answer_tokens, together, shape, machine, dtype)
    return seconds


def write_seconds(
    replies: int, tokens: float, rows: int, shape: Shape, machine: Machine, dtype: str
) -> float:
    """Seconds to generate, `rows` replies side by side: a step reads all weights, and computes each row."""
    size = 4 if dtype == "float32" else BF16_BYTES
    parameters = shape.inner + shape.output
    reading = parameters * size / machine.bandwidth
    computing = 2 * parameters * rows / _speed(machine, dtype)
    step = max(reading, computing) + shape.layers * STEP_SECONDS[machine.kind]
    return step * tokens * replies / max(1, rows)


def _speed(machine: Machine, dtype: str) -> float:
    return machine.speed["float32" if dtype == "float32" else "bfloat16"]


# --- training ----------------------------------------------------------------------------------


def training_seconds(
    recipe: Recipe, row: Row, shape: Shape, machine: Machine, count: Callable[[str], float]
) -> float | None:
    """Seconds to train one row; None where the method or its amount of data is not known here."""
    method, settings = method_of(row.spec.method or ""), row.spec.settings
    if method.work == "none":
        return TRAIN_START_SECONDS
    start = TRAIN_START_SECONDS + shape.total * BF16_BYTES / READ_SPEED
    if method.work in ("lens", "probing"):
        return start + _lens_seconds(recipe, row, shape, machine, count)
    if method.work == "reading":
        read = settings.get("text_items", 300) * len(recipe.languages) * settings.get("text_tokens", 128)
        return start + 2 * read * shape.inner / _speed(machine, _auto_dtype(machine, shape))
    items = settings.get("train_items", method.items)
    if method.work != "tuning" or items is None:
        return None
    steps, languages = settings.get("steps"), len(recipe.languages)
    taken = steps * settings.get("batch_size", 8) if steps else items * settings.get("epochs", 1)
    tokens = taken * languages * PAIR_TOKENS * method.passes
    backward = 2.0 * _top(method.gradient_share, settings) + 2.0 * _top(method.trained_share, settings)
    dtype = "bfloat16" if machine.kind == "gpu" else "float32"
    seconds = (shape.inner + shape.output) * tokens * (2.0 + backward) / _speed(machine, dtype)
    if method.own_answers:
        seconds += write_seconds(items * languages, ANSWER_TOKENS, HF_BATCH, shape, machine, dtype)
    return start + seconds


def _lens_seconds(
    recipe: Recipe, row: Row, shape: Shape, machine: Machine, count: Callable[[str], float]
) -> float:
    """Probing, one pass of the trained prompts to where training begins, the steps, and replies twice."""
    from lens_train.config import LensConfig
    from lens_train.watch.outcome import REPLY_TOKENS, SHOWN

    settings, languages = row.spec.settings, len(recipe.languages)
    known = {field.name for field in fields(LensConfig)} & settings.keys()
    config = LensConfig.build(recipe.languages, recipe.central, {name: settings[name] for name in known})
    dtype = _auto_dtype(machine, shape) if config.dtype == "auto" else config.dtype
    speed = _speed(machine, dtype)
    tokens, here = prompt_tokens(recipe, row, count)
    probed = 0
    if not settings.get("subspaces"):
        probed = min(SETTLED if isinstance(config.probe_items, str) else config.probe_items, here)
    if method_of(row.spec.method or "").work == "probing":
        return 2 * probed * languages * tokens * shape.inner / speed
    items = min(config.train_items, here)
    # Where the same prompts are probed and trained on, one pass serves both.
    passes = items + probed if settings.get("probe_data") else max(items, probed)
    seconds = 2 * passes * languages * tokens * shape.inner / speed
    layers = config.trained_layers
    top = shape.layer * (layers if isinstance(layers, int) else len(layers))
    taken = config.steps * config.batch_size if config.steps else config.passes * items
    # Forward, gradients of states and of weights; what is trained is float32.
    seconds += 6 * taken * languages * tokens * top / machine.speed["float32"]
    shown = settings.get("show_replies", SHOWN) * languages
    return seconds + 2 * write_seconds(shown, REPLY_TOKENS, max(1, shown), shape, machine, dtype)


def _auto_dtype(machine: Machine, shape: Shape) -> str:
    """What `dtype: auto` comes to; see `lens_train.devices.resolve_dtype`."""
    fast = shape.bfloat16 and machine.speed["bfloat16"] >= machine.speed["float32"]
    return "bfloat16" if machine.kind == "gpu" or fast else "float32"


def prompt_tokens(recipe: Recipe, row: Row, count: Callable[[str], float]) -> tuple[float, int]:
    """Mean tokens of a training prompt with its template, and the number of items; else what is usual."""
    from lens_eval.base.errors import UserError
    from lens_train.data import read_prompts

    name = row.spec.data or recipe.train_data or ""
    try:
        texts = read_prompts(resolve_data(name), recipe.languages).texts
    except (UserError, OSError):  # said to be missing elsewhere in the plan
        return TRAIN_PROMPT_TOKENS + TEMPLATE_TOKENS, 10**9
    means = [mean_tokens(own, count) for own in texts.values()]
    return sum(means) / len(means) + TEMPLATE_TOKENS, len(next(iter(texts.values())))


def _top(share: float, settings: Mapping[str, Any]) -> float:
    """A method's share of the model, for as many top layers as its settings name instead of two."""
    layers = settings.get("trained_layers", DEFAULT_LAYERS)
    return min(1.0, share * (layers if isinstance(layers, int) else len(layers)) / DEFAULT_LAYERS)


def training_bytes(row: Row, parameters: int, on_gpu: bool) -> float:
    """Memory of one training: frozen weights, and weight, gradient and moments of what is trained."""
    dtype = row.spec.settings.get("dtype", "auto")
    share = _top(method_of(row.spec.method or "").trained_share, row.spec.settings)
    kept = "float32" if share < 1 or dtype == "auto" else dtype
    frozen = BF16_BYTES if on_gpu or dtype == "bfloat16" else 4
    return parameters * ((1 - share) * frozen + share * ADAM_BYTES[kept]) * ACTIVATIONS
