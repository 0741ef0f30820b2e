"""The tokenizer of a GGUF file as `tokenizer.json`: built by transformers; what it drops is restored."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.templates import rendered
from lens_eval.base.terminal import say
from lens_train.gguf.header import Header

WORDS_FIRST = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "tekken")
"""Kinds of byte-level BPE that keep a word whole if it is a token, whatever the merges give, and that begin
with BOS if the file does not say otherwise."""
NORMALISED = ("qwen2",)
"""Kinds that compose characters (NFC) first, which GGUF does not record."""
SINGLE_DIGITS = ("smollm", "refact", "command-r", "starcoder", "codeshell")
"""Kinds that cut numbers into digits first, and then as GPT-2 does."""
AS_GPT2 = (
    "gpt-2",
    "gpt2",
    "default",
    "jina-en",
    "jina-es",
    "jina-de",
    "roberta-bpe",
    "phi-2",
    *SINGLE_DIGITS,
)
"""Kinds that cut text as GPT-2 does; transformers does that with every kind that it does not know."""
USUAL = {"llama": {"bos": 1, "eos": 2, "unknown": 0}}
"""Special tokens by kind of vocabulary, if a file does not state them."""


def write_tokenizer(header: Header, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja.

    Raises:
        UserError: transformers cannot build it.
    """
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as alone:
        # Alone in a folder: transformers also reads what lies beside the file.
        (Path(alone) / "model.gguf").symlink_to(header.file.resolve())
        try:
            built = PreTrainedTokenizerFast.from_pretrained(alone, gguf_file="model.gguf")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"cannot read the tokenizer of {header.file}: {error}") from None
    document = json.loads(built.backend_tokenizer.to_str())
    _mend(header, document)
    write_text(folder / "tokenizer.json", json.dumps(document, ensure_ascii=False))
    write_text(folder / "tokenizer_config.json", json.dumps(_settings(header), indent=2, ensure_ascii=False))
    template = header.fields.get("tokenizer.chat_template")
    if template:
        write_text(folder / "chat_template.jinja", template)


def _mend(header: Header, document: dict[str, Any]) -> None:
    """Restore what the file states, or its kind of vocabulary implies, but transformers drops."""
    kind = str(header.fields.get("tokenizer.ggml.pre", "default"))
    if header.fields.get("tokenizer.ggml.model") == "gpt2":
        _mend_bytes(header, document, kind)
    document["post_processor"] = _frame(header, kind, document["post_processor"])


def _mend_bytes(header: Header, document: dict[str, Any], kind: str) -> None:
    if kind in WORDS_FIRST:
        document["model"]["ignore_merges"] = True
    if kind in NORMALISED:
        document["normalizer"] = {"type": "NFC"}
    cut = document["pre_tokenizer"]
    if cut.get("type") != "ByteLevel":
        return
    if kind in SINGLE_DIGITS:
        digits = {"type": "Digits", "individual_digits": True}
        document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, cut]}
    elif kind not in AS_GPT2:
        say(
            f"lens: {header.file.name} cuts text as {kind!r} does, which transformers does not know: it is "
            "cut as for GPT-2, and some tokens may differ from those that the model has learnt",
            err=True,
        )


def writes_bos(header: Header) -> bool:
    """Whether the tokenizer begins every text with BOS, by the file's statement or its kind."""
    stated = header.fields.get("tokenizer.ggml.add_bos_token")
    if stated is not None:
        return bool(stated)
    model = header.fields.get("tokenizer.ggml.model")
    return model == "llama" or (model == "gpt2" and header.fields.get("tokenizer.ggml.pre") in WORDS_FIRST)


def _frame(header: Header, kind: str, without: Any) -> Any:
    """The tokens added to every text: BOS before, EOS after, as the file says."""
    around = {
        "bos": writes_bos(header),
        "eos": bool(header.fields.get("tokenizer.ggml.add_eos_token", False)),
    }
    ids = {name: special(header, name) for name, written in around.items() if written}
    used = {name: number for name, number in ids.items() if number is not None}
    if not used:
        return without
    texts = {name: token_text(header, number) for name, number in used.items()}

    def framed(*sequences: str) -> list[dict[str, Any]]:
        pieces: list[dict[str, Any]] = []
        for place, sequence in enumerate(sequences):
            own: list[dict[str, Any]] = [{"Sequence": {"id": sequence, "type_id": place}}]
            if "bos" in texts:
                own.insert(0, {"SpecialToken": {"id": texts["bos"], "type_id": place}})
            if "eos" in texts:
                own.append({"SpecialToken": {"id": texts["eos"], "type_id": place}})
            pieces += own
        return pieces

    specials = {
        texts[name]: {"id": texts[name], "ids": [used[name]], "tokens": [texts[name]]} for name in used
    }
    return {
        "type": "TemplateProcessing",
        "single": framed("A"),
        "pair": framed("A", "B"),
        "special_tokens": specials,
    }


def special(header: Header, name: str) -> int | None:
    """Id of a special token, by the file's statement or its kind of vocabulary."""
    stated = header.token(name)
    usual: Mapping[str, int] = USUAL.get(str(header.fields.get("tokenizer.ggml.model")), {})
    return usual.get(name) if stated is None else stated


def token_text(header: Header, number: int) -> str:
    """A token as the file spells it."""
    return str(header.fields["tokenizer.ggml.tokens"][number])


def _settings(header: Header) -> dict[str, Any]:
    """tokenizer_config.json, with the class that uses tokenizer.json unchanged."""
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {key: special(header, name) for key, name in names.items()}
    tokens = {key: None if number is None else token_text(header, number) for key, number in ids.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: token for key, token in tokens.items() if token is not None},
        "model_max_length": int(header.fields[f"{header.architecture}.context_length"]),
        "clean_up_tokenization_spaces": False,
    }


def end_tokens(header: Header, folder: Path) -> list[int]:
    """Tokens that end an answer: EOS, and the end-of-turn token of the file or its chat template."""
    ends = [special(header, "eos"), header.token("eot"), _turn_end(folder)]
    return list(dict.fromkeys(number for number in ends if number is not None))


def _turn_end(folder: Path) -> int | None:
    """The special token that the written template puts after a reply; None if there is none."""
    from transformers import PreTrainedTokenizerFast

    if not (folder / "chat_template.jinja").is_file():
        return None
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "lens-reply"}]
    try:
        text = rendered(lambda: tokenizer.apply_chat_template(turns, tokenize=False), turns, folder.name)
    except UserError:  # `lens doctor` reports it
        return None
    behind = tokenizer.encode(text.rpartition("lens-reply")[2], add_special_tokens=False)
    return next((number for number in behind if number in tokenizer.added_tokens_decoder), None)
