"""The model card of a variant folder: what it is, how it was made, how it is used, what it can be held to.

It is written when training ends, and again by `lens card`. Parts between two marked lines are made anew;
whatever its owner writes outside of them stays. Names that come from data or models are escaped. No local
path stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.plain_tables import markdown_cell
from lens_eval.base.project import VERSION
from lens_eval.base.reading import read_text
from lens_eval.language.languages import LANGUAGES
from lens_train.job import Variant
from lens_train.local_paths import is_local, last_part, without_paths
from lens_train.publish.base_files import CARD, take_over
from lens_train.publish.front_matter import Card, part_of, read_card, with_part

PAPER = "https://arxiv.org/abs/2410.04407"
ABOUT, RESULTS = "about", "results"
_ACTING = ("steering", "decoding")
_LIBRARIES = {"checkpoint": "transformers", "adapter": "peft"}


def write_card(folder: Path, results: str = "", fresh: bool = False, name: str = "") -> Path:
    """Write or renew `README.md` of a variant folder, and copy the files that state the base's licence.

    Args:
        results: Markdown with measured results; empty: those that the card has, or training's own.
        fresh: the folder has just been made, so that a card in it is a library's, and is replaced.
        name: in the title; empty: the folder's own.

    Raises:
        UserError: the folder holds no variant, or a card that is not this command's.
    """
    variant = load_variant(folder)
    file = folder / CARD
    licence = take_over(variant.base["name"], folder)
    old = Card() if fresh or not file.is_file() else read_card(read_text(file))
    if old.text.strip() and part_of(old.text, ABOUT) is None:
        raise UserError(f"{file} was not written by lens card; move it away, or add to it by hand")
    write_text(file, compose(variant, name or folder.resolve().name, licence, old, results).write())
    return file


def complete(folder: Path, name: str) -> None:
    """Give a folder its first card while it is prepared, where it is not yet called `name`.

    A command that is killed afterwards leaves no folder without a card.
    """
    write_card(folder, fresh=True, name=name)


def is_ours(text: str) -> bool:
    """Whether a card was written by `write_card`."""
    return part_of(read_card(text).text, ABOUT) is not None


def load_variant(folder: Path) -> Variant:
    """The record of a variant folder.

    Raises:
        UserError: it holds none.
    """
    try:
        return Variant.load(folder)
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no trained variant (no variant.json); name the output folder of lens train"
        ) from None


def compose(
    variant: Variant,
    name: str,
    licence: Mapping[str, str],
    old: Card = Card(),  # noqa: B008 (frozen)
    results: str = "",
    base: str | None = None,
) -> Card:
    """The card as it would be written.

    Args:
        name: under which the model is loaded: its folder's name, or its hub id.
        licence: fields of the base's card.
        old: the card that is there; its front matter and the text outside of parts are kept.
        base: hub id of the base, if the variant knows it by a path.
    """
    source = base or last_part(variant.base["name"])
    matter = dict(old.matter) or _matter(variant, base, licence)
    if base is not None:
        matter |= {"base_model": base, "base_model_relation": _relation(variant)}
    text = with_part(old.text, ABOUT, _about(variant, name, source, licence))
    found = results or part_of(old.text, RESULTS) or _own_results(variant)
    return Card(matter, with_part(text, RESULTS, found))


def _matter(variant: Variant, base: str | None, licence: Mapping[str, str]) -> dict[str, Any]:
    source = base or variant.base["name"]
    matter: dict[str, Any] = dict(licence)
    if not is_local(source) and "/" in source:
        matter |= {"base_model": source, "base_model_relation": _relation(variant)}
    matter["language"] = list(variant.languages)
    if variant.kind in _LIBRARIES:
        matter |= {"library_name": _LIBRARIES[variant.kind], "pipeline_tag": "text-generation"}
    return {**matter, "tags": ["lens-multilingual", "multilingual", variant.method.rpartition(":")[2]]}


def _relation(variant: Variant) -> str:
    return "adapter" if variant.kind != "checkpoint" else "finetune"


def _about(variant: Variant, name: str, base: str, licence: Mapping[str, str]) -> str:
    names = ", ".join(LANGUAGES[code].name if code in LANGUAGES else code for code in variant.languages)
    what = f"[Lens]({PAPER})" if variant.method == "lens" else f"the method {markdown_cell(variant.method)}"
    untouched = " No weight is changed: it acts while an answer is generated." * (variant.kind in _ACTING)
    terms = markdown_cell(", ".join(licence.values())) or "not named in its card; see the base"
    lines = [
        f"# {markdown_cell(name.rpartition('/')[2])}",
        "",
        f"{markdown_cell(base)} made with {what} to answer in {names}.{untouched}",
        "",
        "## How to use",
        "",
        *_use(variant, name, base),
        "",
        "## How it was made",
        "",
        *_facts(variant, base),
        "",
        f"Licence of the base: {terms}. What is made of a base stands under its terms.",
    ]
    return "\n".join(lines)


def _use(variant: Variant, name: str, base: str) -> list[str]:
    one, source, asked = (repr(text) for text in (name, base, _asked(variant)))
    if variant.kind == "checkpoint":
        code = [
            "from transformers import pipeline",
            "",
            f"ask = pipeline('text-generation', {one})",
            "asked = [{'role': 'user', 'content': 'Habari?'}]",
            "print(ask(asked, max_new_tokens=64)[0]['generated_text'][-1])",
        ]
    elif variant.kind == "adapter":
        code = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({source})",
            f"model = PeftModel.from_pretrained(base, {one})",
        ]
    elif variant.kind == "delta":
        return [
            "The folder holds the changed weights alone. They fit this base and no other:",
            "",
            *_block("bash", [f"lens merge --delta {name} --model {base} --output merged"]),
        ]
    elif variant.kind == "steering":
        code = [
            "from pathlib import Path",
            "from transformers import AutoModelForCausalLM",
            "from lens_train import Steering",
            "",
            f"model = AutoModelForCausalLM.from_pretrained({source})",
            f"with Steering.load(Path({one})).on(model, {asked}):",
            "    ...  # every forward pass of the model is steered",
        ]
    else:
        return [
            "Evaluated with a base by a recipe of lens-multilingual:",
            "",
            *_block("bash", [f"lens chat {base} {name}"]),
        ]
    return _block("python", code)


def _asked(variant: Variant) -> str:
    return next((code for code in variant.languages if code != variant.central), variant.central)


def _block(kind: str, lines: list[str]) -> list[str]:
    return [f"```{kind}", *lines, "```"]


def _facts(variant: Variant, base: str) -> list[str]:
    memory = f", peak memory {variant.peak_memory_bytes / 1e9:.2f} GB" if variant.peak_memory_bytes else ""
    tokens = f", {variant.tokens_seen:,} tokens trained on" if variant.tokens_seen else ""
    facts = {
        "base": f"{base}, weights SHA-256 {variant.base.get('weights_sha256', '')[:16]}",
        "method": f"{variant.method}, lens-multilingual {VERSION}",
        "languages": f"{', '.join(variant.languages)}; central: {variant.central}",
        "data": _data(variant.data),
        "cost": f"{variant.wall_seconds:.0f} s{memory}{tokens}",
        "seed": str(variant.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in variant.versions.items()),
    }
    settings = without_paths(dict(variant.settings))
    lines = ["| | |", "|---|---|", *(f"| {key} | {markdown_cell(text)} |" for key, text in facts.items())]
    return [
        *lines,
        "",
        "<details><summary>Settings</summary>",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {markdown_cell(str(key))} | {markdown_cell(str(value))} |" for key, value in settings.items()),
        "",
        "</details>",
    ]


def _data(data: Mapping[str, Any]) -> str:
    if not data.get("name"):
        return "none"
    read = f"{data['items']} items of " if "items" in data else ""
    return f"{read}{last_part(str(data['name']))}, SHA-256 {str(data.get('sha256', ''))[:16]}"


def _own_results(variant: Variant) -> str:
    """What training itself counted on held-back prompts; that nothing was measured, if it counted nothing."""
    replies = variant.outcome.get("replies")
    if not replies:
        return (
            "## Results\n\nNone were measured. `lens eval` measures, `lens card --results` puts a table here."
        )
    kinds = {"usable": "usable", "off_target": "off-target", "looping": "loops", "echoing": "echoes"}
    head = ["language", *(f"{words}, before → after" for words in kinds.values())]
    rows = []
    for code in variant.languages:
        if code in replies["before"] and code in replies["after"]:
            was, now = replies["before"][code], replies["after"][code]
            rows.append([code, *(f"{was[kind]} → {now[kind]}" for kind in kinds)])
    return "\n".join(
        [
            "## Results",
            "",
            f"Replies to {markdown_cell(replies['text'])}, {replies['items']} per language, at most "
            f"{replies['most_tokens']} tokens: so few show what happened, and measure nothing.",
            "",
            f"| {' | '.join(head)} |",
            "|---" + "|---:" * len(kinds) + "|",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )
