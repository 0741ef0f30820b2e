"""Any causal model as a stack of decoder layers, found by structure: no code per model family.

The model's own forward pass makes embeddings, masks, rotary angles and the like; the layers that are not
wanted hand their input on unchanged, and the first of these can put a cached hidden state in its place. So
part of the stack can be run on states computed earlier, whatever the family passes from layer to layer.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lens_eval.errors import UserError
from lens_eval.mini import resolve_model
from lens_eval.progress import progress, waiting
from lens_train.gguf import is_gguf
from lens_train.past import Noted, Past

Tap = Callable[[Tensor], None]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """Return the device asked for; `auto` is a GPU where there is one, else the CPU.

    Raises:
        UserError: a device that this machine does not have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; possible: auto, cpu, cuda, cuda:1, ...") from None
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise UserError(
                f"device {device!r} was asked for, but PyTorch sees {count} GPU(s) here; use --device cpu"
            )
    elif wanted.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' was asked for, but this machine has none; use --device cpu")
    return wanted


def resolve_dtype(dtype: str, device: torch.device, model: str | None = None) -> torch.dtype:
    """Return the type of the frozen weights.

    `auto` is bfloat16 on a GPU that has it, and on a CPU where `model` is stored so and products in it are
    no slower than in float32, as `multiplies_in_bfloat16` finds.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    stored = model is not None and causal_config(model).dtype == torch.bfloat16
    fast = device.type == "cpu" and stored and multiplies_in_bfloat16()
    return torch.bfloat16 if fast else torch.float32


@lru_cache(maxsize=1)
def multiplies_in_bfloat16() -> bool:
    """Whether this CPU takes no longer for a matrix product in bfloat16 than in float32, as timed here.

    To have the instructions is not enough: some processors do half as many products in them as in float32,
    others twice as many, or ten times. The fastest of a few products counts.
    """
    if not any(
        getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ):
        return False
    fastest = product_seconds((torch.bfloat16, torch.float32), 256, (1024, 1024), 8)
    return fastest[torch.bfloat16] <= fastest[torch.float32]


def product_seconds(
    dtypes: Sequence[torch.dtype], rows: int, weight: tuple[int, int], tries: int
) -> dict[torch.dtype, float]:
    """Seconds of the fastest of a few products of `rows` states with a weight, by type, in one thread.

    Processor time is taken, which does not count what else the machine does; the types take turns.
    """
    fastest = dict.fromkeys(dtypes, math.inf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(tries):
                for dtype in dtypes:
                    states, matrix = torch.ones(rows, weight[1], dtype=dtype), torch.ones(weight, dtype=dtype)
                    begun = time.thread_time()
                    nn.functional.linear(states, matrix)
                    fastest[dtype] = min(fastest[dtype], time.thread_time() - begun)
    finally:
        torch.set_num_threads(threads)
    return fastest


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a type as settings and records spell it: `bfloat16`."""
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=8)
def checkpoint_folder(name: str) -> Path:
    """Return the local folder of a model: a folder as it is, `builtin`, a hub id's or a GGUF file's.

    A GGUF file is converted where that was not done before; see `lens_train.gguf.cache.model_folder`.

    Raises:
        UserError: no such folder, file or hub id; no safetensors weights in it; a GGUF file that is
            damaged or not supported.
    """
    if is_gguf(name):
        from lens_train.gguf.cache import model_folder

        return model_folder(Path(name))
    folder = Path(resolve_model(name))
    if not folder.is_dir():
        folder = download(name)
    if not (folder / "config.json").is_file():
        files = sorted(file.name for file in folder.glob("*.gguf"))
        hint = f"; name the file itself: {folder / files[0]}" if files else ""
        raise UserError(f"{folder} is no model folder: it has no config.json{hint}")
    if not weight_files(folder):
        raise UserError(
            f"{folder} holds no *.safetensors weights (pickled weights are not read); "
            "save the model once with model.save_pretrained(...)"
        )
    return folder


def download(name: str) -> Path:
    """The local snapshot of a model or adapter on the hub, downloaded where it is not there yet.

    Raises:
        UserError: there is none, or it is not to be had; says why and what helps.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:
        raise UserError(f"no model {name!r}: no such folder, and {_hub_says(error, name)}") from None


def _hub_says(error: Exception, name: str) -> str:
    """Why the hub gave no model, and what helps."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"the hub gives it only to who has accepted its terms: do so at https://huggingface.co/{name}, "
            "then `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has none of that name (or it is private: `hf auth login`)"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "it is not in the local cache and the hub cannot be asked (offline?)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"the hub says: {reason}"


def weight_files(folder: Path) -> list[Path]:
    """Weight files of a checkpoint: those of its index, or all safetensors of the folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / name for name in sorted(names)]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a local or hub model.

    Raises:
        UserError: there is none, or it needs code from the model's folder.
    """
    from transformers import AutoTokenizer

    folder = checkpoint_folder(name)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load the tokenizer of {name}: {_first_line(error)}") from None


def load_model(name: str, device: str | torch.device = "cpu", dtype: str | torch.dtype = "float32") -> Any:
    """Load a causal model for evaluation or training, on `device`, in `dtype`.

    Raises:
        UserError: unknown architecture, no causal decoder, or weights that do not fit the architecture.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    config = causal_config(name)
    place = resolve_device(device) if isinstance(device, str) else device
    kind = resolve_dtype(dtype, place) if isinstance(dtype, str) else dtype
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    # A GPU is filled tensor by tensor, without a copy of the model in main memory first.
    placed = {"device_map": {"": place}} if place.type == "cuda" else {}
    try:
        with waiting("loading the model"):
            model = AutoModelForCausalLM.from_pretrained(
                checkpoint_folder(name), config=config, dtype=kind, trust_remote_code=False, **placed
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load {name} as a causal language model: {_first_line(error)}") from None
    return model.to(place).eval()


def causal_config(name: str) -> Any:
    """Configuration of a decoder-only model.

    Raises:
        UserError: unknown architecture, or an encoder-decoder.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint_folder(name), trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load {name} as a causal language model: {_first_line(error)}") from None
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{name} ({config.model_type}) is an encoder-decoder; Lens needs a decoder-only model"
        )
    return config


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@lru_cache(maxsize=8)
def model_identity(name: str) -> dict[str, str]:
    """Identity of a model: its name, and SHA-256 of its weights and of its chat template.

    The hash of the weights is that of their file; of several files, the hash of their hashes.
    """
    folder = checkpoint_folder(name)
    template = json.dumps(load_tokenizer(name).chat_template, sort_keys=True)
    return {
        "name": name,
        "weights_sha256": _hash_files(weight_files(folder)),
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }


def _hash_files(files: list[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    with (
        progress(label="hashing weights", total=size, unit="bytes") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        hashes = list(pool.map(partial(_hash_file, bar=bar), files))
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _hash_file(file: Path, bar: Any) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


class Decoder:
    """A causal model without its output head, cut between any two layers.

    `hidden[i]` is the output of layer i, counted from 0; `hidden[n - 1]` is taken after the final norm.
    """

    def __init__(self, model: Any, device: torch.device | None = None) -> None:
        """Find the layers and check that the model can be cut; `device` is where it is run.

        Raises:
            UserError: naming a model whose layers cannot be found, or do not simply follow one another.
        """
        self.model = model
        self.name = f"{model.name_or_path or type(model).__name__} ({model.config.model_type})"
        self.config = model.config.get_text_config()
        self.base = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
        self.layers = find_layers(self.base, self.config.num_hidden_layers, self.name)
        self.takes_positions = "position_ids" in inspect.signature(self.base.forward).parameters
        """Whether tokens may be told where they stand."""
        self._dtype: torch.dtype = model.dtype
        self._wraps: list[int] = [0] * len(self.layers)
        self.device: torch.device = device or model.device
        self.reuses_past = False
        """Whether keys and values of earlier tokens can be handed to the model, with the same result."""
        self._prepare()
        self._check()

    def _prepare(self) -> None:
        """Read what must be in memory before any layer is run."""

    def spans(self, stop: int) -> list[tuple[int, int]]:
        """Parts of the layers below `stop` (first, last + 1), each run over all prompts before the next."""
        return [(0, stop)] if stop else []

    def loaded(self, first: int, last: int) -> AbstractContextManager[None]:
        """Hold the layers from `first` to `last - 1` in memory."""
        return nullcontext()

    def hold(self, first: int) -> None:
        """Have the layers from `first` on in memory, to stay."""

    def free_embeddings(self) -> None:
        """Drop what is needed only to run prompts from their tokens, where that helps."""

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def dtype(self) -> torch.dtype:
        """Type that the model was loaded in; trained layers may have been widened since."""
        return self._dtype

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return self.config.hidden_size

    def index(self, layer: int) -> int:
        """Layer index counted from 0.

        Raises:
            UserError: there is no such layer.
        """
        if not -len(self) <= layer < len(self):
            raise UserError(
                f"{self.name} has layers 0 to {len(self) - 1} (or -{len(self)} to -1); there is no {layer}"
            )
        return layer % len(self)

    def __call__(
        self,
        ids: Tensor,
        mask: Tensor,
        *,
        start: int = 0,
        stop: int | None = None,
        hidden: Tensor | None = None,
        taps: Mapping[int, Tap] | None = None,
        past: Past | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run layers `start` to `stop - 1`.

        Args:
            ids: token ids, (batch, tokens); unused where `start` is not 0.
            mask: 1 for real tokens, 0 for padding on either side, (batch, tokens of `past` + tokens).
            start: first layer that is run.
            stop: layer before which to stop; None = run all, and the final norm.
            hidden: states entering layer `start`, (batch, tokens, width); needed unless `start` is 0.
            taps: layer -> function that is given hidden[layer], (batch, tokens, width).
            past: keys and values of earlier tokens; may end the pass early.
            positions: where the tokens stand, (batch, tokens); None = counted from `mask`.

        Returns:
            States entering layer `stop`, or hidden[n - 1]; (batch, tokens, width).
        """
        end = len(self) if stop is None else stop
        taps = dict(taps or {})
        last_tap = taps.pop(len(self) - 1, None)
        caught: list[Tensor] = []
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers[:start]):
                stack.enter_context(_passing(layer, self._wraps[number], hidden if number == 0 else None))
            for number, tap in taps.items():
                stack.enter_context(_tapped(self.layers[number], tap))
            if end < len(self):
                stack.enter_context(_halting(self.layers[end], caught))
            try:
                output = self.base(**self._inputs(ids, mask, hidden, past, positions)).last_hidden_state
            except Noted:
                return caught[0] if caught else mask.new_empty(0)
        if last_tap is not None:
            last_tap(output)
        return output

    def _inputs(
        self, ids: Tensor, mask: Tensor, hidden: Tensor | None, past: Past | None, positions: Tensor | None
    ) -> dict[str, Any]:
        # With states at hand the embeddings are not needed, and may have been freed.
        tokens = {"input_ids": ids} if hidden is None else {"inputs_embeds": hidden}
        inputs: dict[str, Any] = {**tokens, "attention_mask": mask, "use_cache": False}
        if past is not None:
            inputs["past_key_values"] = past
        if positions is not None:
            inputs["position_ids"] = positions
        elif self.takes_positions and not bool(mask[:, 0].all()):
            # Left padding: count positions from the first token.
            new = ids if hidden is None else hidden
            inputs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        return inputs

    @torch.no_grad()
    def _check(self) -> None:
        """See that cut and whole agree on a few tokens, and how each layer wraps its output."""
        ids = torch.arange(6, device=self.device).view(2, 3) % self.config.vocab_size
        mask = torch.ones_like(ids)
        depth = self.spans(len(self))[:2][-1][1]  # two layers of a streamed model stand for all
        with self.loaded(0, depth):
            with ExitStack() as stack:
                for number, layer in enumerate(self.layers):
                    handle = layer.register_forward_hook(self._note_wrap(number))
                    stack.callback(handle.remove)
                whole = self(ids, mask, stop=depth)
            self._wraps[depth:] = self._wraps[depth - 1 : depth] * (len(self) - depth)
            if not bool(whole.isfinite().all()):
                raise UserError(
                    f"{self.name} gives states that are not finite numbers: its weights are damaged"
                )
            middle = depth // 2
            try:
                hidden = self(ids, mask, stop=middle) if middle else None
                cut = self(ids, mask, start=middle, stop=depth, hidden=hidden)
            except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise UserError(f"{self.name} cannot be cut between layers: {_first_line(error)}") from None
            if not self._alike(cut, whole):
                raise UserError(
                    f"{self.name} cannot be cut between layers: running it in two parts gives another result "
                    "(its layers share more than the hidden state)"
                )
            self.reuses_past = self._check_past(ids, mask, depth, whole)

    @torch.no_grad()
    def final_norm(self) -> tuple[Tensor, Tensor] | None:
        """Gain and offset of the final norm, (width,) each, float64, on the CPU.

        With them hidden[n - 1] = gain * u + offset, and u is the normed state, of mean square 1 whatever the
        token and the model. Found by what the norm makes of numbers of mean 0 and mean square 1, so for any
        norm that scales by root mean square or by standard deviation. None if the model ends in no such norm.
        """
        signs = torch.ones(self.width, dtype=self.dtype, device=self.device)
        signs[1::2] = -1
        random = 7 * torch.randn(self.width, generator=torch.Generator().manual_seed(0)).to(signs)
        mask = torch.ones(1, 3, dtype=torch.long, device=self.device)
        rows = torch.stack([signs, -signs, random])[None]
        output = self(mask, mask, start=len(self), hidden=rows)[0].double().cpu()
        plus, minus, probe = output
        offset = (plus + minus) / 2
        gain = (plus - minus) / 2 / signs.double().cpu()
        if not bool(gain.abs().max() > 0):
            return None
        # A dimension that the norm switches off says nothing; dividing by its gain would make noise of it.
        dead = gain.abs() < 1e-6 * gain.abs().max()
        normed = torch.where(dead, 0.0, (probe - offset) / torch.where(dead, 1.0, gain))
        if abs(float(normed.square().sum() / (~dead).sum()) - 1) > 0.1:
            return None
        return torch.where(dead, torch.inf, gain), offset

    def _check_past(self, ids: Tensor, mask: Tensor, depth: int, whole: Tensor) -> bool:
        past = Past(note=True)
        try:
            self(ids[:, :1], mask[:, :1], stop=depth, past=past)
            rest = self(ids[:, 1:], mask, stop=depth, past=Past(past.fresh))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError):
            return False
        return set(past.fresh) == set(range(depth)) and self._alike(rest, whole[:, 1:])

    def _alike(self, first: Tensor, second: Tensor) -> bool:
        tolerance = max(1e-3, 4 * torch.finfo(self.dtype).eps)
        return torch.allclose(first, second, rtol=tolerance, atol=tolerance * float(second.abs().max()))

    def _note_wrap(self, number: int) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._wraps[number] = len(output) if isinstance(output, tuple) else 0

        return note


def find_layers(base: nn.Module, count: int, name: str) -> nn.ModuleList:
    """The one outermost list of `count` layers.

    Raises:
        UserError: naming the model `name`: there is none, or more than one.
    """
    found = {
        path: module
        for path, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outermost = [path for path in found if not any(path.startswith(other + ".") for other in found)]
    if len(outermost) != 1:
        lists = ", ".join(outermost) or "none"
        raise UserError(f"cannot find the {count} decoder layers of {name}: lists of that length: {lists}")
    layers = found[outermost[0]]
    assert isinstance(layers, nn.ModuleList)
    return layers


@contextmanager
def _passing(layer: nn.Module, wrap: int, instead: Tensor | None) -> Iterator[None]:
    """Let `layer` hand on its input, or `instead`."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = _first_input(args, kwargs) if instead is None else instead
        return (hidden, *[None] * (wrap - 1)) if wrap else hidden

    with instead_of(layer, forward):
        yield


@contextmanager
def _halting(layer: nn.Module, caught: list[Tensor]) -> Iterator[None]:
    """End the pass before `layer`, its input noted in `caught`."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        caught.append(_first_input(args, kwargs))
        raise Noted

    with instead_of(layer, forward):
        yield


def _first_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


@contextmanager
def instead_of(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Run `forward` in place of the layer's own, until the block ends."""
    own = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own


@contextmanager
def _tapped(layer: nn.Module, tap: Tap) -> Iterator[None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        tap(output[0] if isinstance(output, tuple) else output)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
