"""What vLLM cannot do with a model, said before it loads, and what it needs on a CPU. Loads no vLLM."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lens_eval.backends.vllm_steering import EXTENSION
from lens_eval.base.errors import UserError
from lens_eval.base.identity import version_of
from lens_eval.base.reading import read_object, shaped
from lens_train.checkpoint import INDEX, Checkpoint, listed
from lens_train.files import tensor_entries

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes of vLLM's attention on a CPU, as vLLM 0.32 lists them."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for `max_lora_rank`; its default is 16."""

GIBIBYTE = 1 << 30

PROCESSOR = "lens_eval.backends.vllm_decoding:LanguageRule"
FOLDER, LANGUAGE = "lens_decoding", "lens_language"
"""Names under which an engine is told the folder of a decoding, and a request its language."""


def is_cpu() -> bool:
    """Whether the installed vLLM runs on a CPU: its own sign is `cpu` in the version of the distribution."""
    return "cpu" in (version_of("vllm") or "")


def checked(arguments: Mapping[str, Any], cpu: bool) -> dict[str, Any]:
    """`arguments` of lm_eval's vLLM backend, with what they need and the user did not say.

    On a CPU: `enforce_eager` (compiling takes longer than small evaluations) and `kv_cache_memory_bytes`
    (vLLM otherwise asks for 92% of the whole memory and refuses to start where that is not free). With an
    adapter: a `max_lora_rank` that covers it. With a steering: `enforce_eager`. Where the model is not
    compiled: the plug-in that steers. `dtype` is left alone: hf and vllm compute in the same one.

    Raises:
        UserError: what vLLM would refuse with a stack trace, or ignore in silence.
    """
    arguments = dict(arguments)
    adapter = arguments.get("lora_local_path")
    parallel = int(arguments.get("data_parallel_size") or 1)
    if adapter:
        refuse_for(arguments, "adapter")
        arguments["max_lora_rank"] = _lora_rank(Path(str(adapter)), arguments.get("max_lora_rank"))
    if arguments.get("steering"):
        refuse_for(arguments, "steering")
        arguments["enforce_eager"] = True
    if cpu:
        if parallel > 1:
            raise UserError(
                f"data_parallel_size={parallel} on a CPU: lm_eval gives each copy a GPU of its own and waits "
                "for ever where there is none; leave it out"
            )
        _check_head_size(arguments)
        arguments.setdefault("enforce_eager", True)
        if "gpu_memory_utilization" not in arguments:
            arguments.setdefault("kv_cache_memory_bytes", _cpu_cache())
    if arguments.get("enforce_eager") and parallel == 1 and _stages(arguments) == 1:
        arguments.setdefault("worker_extension_cls", EXTENSION)
    return arguments


def require_same_files(arguments: Mapping[str, Any]) -> None:
    """Refuse a folder of which vLLM reads other weights than transformers does.

    vLLM reads every safetensors file, or those that an index lists, or `consolidated*.safetensors`.

    Raises:
        UserError: naming the files.
    """
    if arguments.get("load_format", "auto") not in ("auto", "hf", "safetensors"):
        return
    revision = arguments.get("revision")
    checkpoint = Checkpoint.open(str(arguments["pretrained"]), revision and str(revision))
    read = set(checkpoint.folder.glob("*.safetensors"))
    index = checkpoint.folder / INDEX
    if index.is_file():
        places = read_object(index, "index of weights").get("weight_map")
        read = {checkpoint.folder / str(name) for name in (places or {}).values()}
    if arguments.get("load_format", "auto") == "auto":
        read = set(checkpoint.folder.glob("consolidated*.safetensors")) or read
    more, less = read - set(checkpoint.weights), set(checkpoint.weights) - read
    if more or less:
        faults = [
            f"{words} {listed(sorted(file.name for file in files))}"
            for words, files in (("it would read", more), ("it would not read", less))
            if files
        ]
        raise UserError(
            f"vLLM takes other weights of {checkpoint.folder} than transformers: {' and '.join(faults)}. "
            "Move the files that are not the model's out of the folder"
        )


def refuse_for(arguments: Mapping[str, Any], writes: str) -> None:
    """Refuse arguments beside which vLLM does not apply what a method writes; nothing of it need be there.

    Args:
        arguments: of lm_eval's vLLM backend.
        writes: as in `lens_train.methods.Method`.

    Raises:
        UserError: naming the argument.
    """
    parallel = int(arguments.get("data_parallel_size") or 1)
    if writes == "adapter" and parallel > 1:
        raise UserError(
            f"an adapter with data_parallel_size={parallel}: lm_eval's vLLM backend has ignored adapters in "
            "that mode without a word; use tensor_parallel_size, or merge the adapter into its model first"
        )
    if writes == "steering":
        _check_steering(arguments, parallel)
    if writes == "decoding" and arguments.get("speculative_config"):
        raise UserError(
            "a decoding with speculative_config: vLLM takes no logits processors there; leave it out"
        )


def with_decoding(arguments: Mapping[str, Any], folder: str, steering: str | None) -> dict[str, Any]:
    """`arguments` with the logits processor that applies the decoding in `folder`.

    Raises:
        UserError: a steering is asked for too, or what vLLM refuses beside a logits processor.
    """
    if steering:
        raise UserError(
            "a decoding and a steering at once: the languages of one would hide the other's; give one"
        )
    refuse_for(arguments, "decoding")
    processors = [*(arguments.get("logits_processors") or []), PROCESSOR]
    more = {**(arguments.get("additional_config") or {}), FOLDER: str(Path(folder).resolve())}
    return {**arguments, "logits_processors": processors, "additional_config": more}


def _check_steering(arguments: Mapping[str, Any], parallel: int) -> None:
    if parallel > 1:
        raise UserError(
            f"a steering with data_parallel_size={parallel}: lm_eval then loads a new model for every batch, "
            "which no steering reaches; use tensor_parallel_size"
        )
    if not arguments.get("enforce_eager", True):
        raise UserError(
            "a steering with enforce_eager=False: compiled models and CUDA graphs run past the hooks that "
            "steer; leave enforce_eager out, or use the backend hf"
        )
    if _stages(arguments) > 1:
        raise UserError(
            f"a steering with pipeline_parallel_size={_stages(arguments)}: no process has all the layers; "
            "use tensor_parallel_size"
        )
    if arguments.get("speculative_config"):
        raise UserError(
            "a steering with speculative_config: the draft model would not be steered; leave it out"
        )
    if arguments.get("worker_extension_cls", EXTENSION) != EXTENSION:
        raise UserError(
            "a steering with worker_extension_cls: vLLM takes one such plug-in, and steering is one; "
            "leave it out"
        )


def _stages(arguments: Mapping[str, Any]) -> int:
    return int(arguments.get("pipeline_parallel_size") or 1)


def _check_head_size(arguments: Mapping[str, Any]) -> None:
    size = _head_size(arguments)
    if size is not None and size not in CPU_HEAD_SIZES:
        raise UserError(
            f"{arguments['pretrained']} has attention heads of size {size}; vLLM on a CPU has "
            f"{', '.join(map(str, CPU_HEAD_SIZES))}; evaluate it with the backend hf"
        )


def _head_size(arguments: Mapping[str, Any]) -> int | None:
    """Size of an attention head; None where the model's settings do not say (vLLM then decides)."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        str(arguments["pretrained"]),
        revision=arguments.get("revision"),
        trust_remote_code=bool(arguments.get("trust_remote_code", False)),
    ).get_text_config()
    if getattr(config, "head_dim", None):
        return int(config.head_dim)
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    return int(width) // int(heads) if width and heads else None


def adapter_rank(adapter: Path) -> int:
    """Largest rank of a LoRA adapter folder.

    Raises:
        UserError: no adapter, or one of a kind that vLLM does not apply.
    """
    settings = adapter_settings(adapter)
    if settings.get("peft_type", "LORA") != "LORA":
        raise UserError(f"the adapter {adapter} is {settings['peft_type']}; vLLM applies LoRA only")
    unsupported = {
        "modules_to_save": "whole trained modules beside LoRA",
        "trainable_token_indices": "trained token embeddings",
        "use_dora": "DoRA",
        "lora_bias": "a bias",
    }
    found = [what for key, what in unsupported.items() if settings.get(key)]
    if settings.get("bias", "none") != "none":
        found.append("trained biases")
    weights = adapter / "adapter_model.safetensors"
    if weights.is_file() and any("lora_" not in name for name in tensor_entries(weights)[1]):
        found.append("whole weights beside LoRA (those of a resized vocabulary, as a rule)")
    if found:
        raise UserError(
            f"the adapter {adapter} has {' and '.join(found)}, which vLLM does not apply; "
            "merge it into its model, or use the backend hf"
        )
    return max([int(settings["r"]), *map(int, (settings.get("rank_pattern") or {}).values())])


def largest_rank(adapters: Sequence[Path]) -> int:
    """The `max_lora_rank` with which a model can be loaded once for all these adapters, at least 16.

    Raises:
        UserError: see `adapter_rank`; or one has a larger rank than vLLM takes.
    """
    return max([16, *(_lora_rank(adapter, None) for adapter in adapters)])


def _lora_rank(adapter: Path, wanted: Any) -> int:
    """The `max_lora_rank` for an adapter folder.

    Raises:
        UserError: see `adapter_rank`; or it does not fit in `wanted`.
    """
    rank = adapter_rank(adapter)
    if wanted is not None:
        if int(wanted) < rank:
            raise UserError(f"max_lora_rank={wanted}, but the adapter {adapter} has rank {rank}")
        return int(wanted)
    if rank > LORA_RANKS[-1]:
        raise UserError(
            f"the adapter {adapter} has rank {rank}, vLLM goes up to {LORA_RANKS[-1]}; "
            "merge it into its model"
        )
    return max(16, next(value for value in LORA_RANKS if value >= rank))


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """`adapter_config.json` of a PEFT folder.

    Raises:
        UserError: the folder holds none that can be read.
    """
    file = adapter / "adapter_config.json"
    try:
        settings = read_object(file, "configuration of an adapter")
        with shaped(file, "configuration of a LoRA adapter"):
            if settings.get("peft_type", "LORA") == "LORA" and int(settings["r"]) < 1:
                raise ValueError(f"rank {settings['r']}")
    except UserError as error:
        raise UserError(f"no LoRA adapter in {adapter}: {error}") from None
    return settings


def _cpu_cache() -> int:
    """Bytes for keys and values: a quarter of the memory, at most 4 GiB (32,000 tokens of an 8B Llama)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(4 * GIBIBYTE, memory // 4)
