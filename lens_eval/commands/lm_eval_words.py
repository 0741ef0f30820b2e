"""`lens eval` takes what is typed for `lm_eval`: its names of options, and how it takes their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from lens_eval.base.errors import UserError

_SEVERAL = ("--tasks", "-t", "--model-args", "-a", "--gen-kwargs")
"""Options behind which lm_eval takes several words."""
_TEMPLATE = "--apply-chat-template"
"""Behind which it takes a word or none."""


def dashed(name: str) -> str:
    """The name of an option with dashes: lm_eval writes its own with underscores."""
    return name.replace("_", "-")


class LmEvalCommand(TyperCommand):
    """A command whose options may be typed as lm_eval's: `--gen_kwargs a=1 b=2`, `--apply_chat_template`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the class above, of the words put as it takes them."""
        return super().parse_args(ctx, _one_word_each(args))


def _one_word_each(args: Sequence[str]) -> list[str]:
    """Every option with exactly one word: several are joined by commas, none is `true`."""
    found: list[str] = []
    place = 0
    while place < len(args):
        option = args[place]
        place += 1
        plain = dashed(option) if option.startswith("--") and "=" not in option else option
        if plain not in (*_SEVERAL, _TEMPLATE):
            found.append(option)
            continue
        end = place
        while end < len(args) and not args[end].startswith("-") and (plain != _TEMPLATE or end == place):
            end += 1
        words = args[place:end]
        place = end
        found += [plain, *([",".join(words)] if words else ["true"] if plain == _TEMPLATE else [])]
    return found


def template_setting(text: str | None) -> bool | str:
    """`--apply_chat_template` as a setting of a recipe: true, false, auto, or the name of a template."""
    if text is None or text == "auto":
        return "auto"
    return {"true": True, "false": False}.get(text.lower(), text)


def model_of(
    model: str | None, backend: str, arguments: Mapping[str, Any], adapter: str | None
) -> tuple[str, str, dict[str, Any], str | None]:
    """Model, backend, further arguments and adapter, also where they are given in lm_eval's words.

    There `--model` is the backend, and the model stands in `--model_args pretrained=...`.

    Raises:
        UserError: no model is named, or two are.
    """
    from lens_eval.runs.recipe import BACKENDS

    rest = dict(arguments)
    named = [str(rest.pop(name)) for name in ("pretrained",) if name in rest]
    adapters = [str(rest.pop(name)) for name in ("peft", "lora_local_path") if name in rest]
    if model is not None and named:
        if model not in BACKENDS:
            raise UserError(
                f"two models are named: --model {model} and pretrained={named[0]}; with pretrained= "
                f"--model is the backend: {', '.join(BACKENDS)}"
            )
        backend, model = model, named[0]
    elif named:
        model = named[0]
    elif model in BACKENDS and not Path(str(model)).exists():
        raise UserError(
            f"--model {model} is a backend and names no model: add --model_args pretrained=MODEL, or say "
            f"--model MODEL --backend {model}"
        )
    if model is None:
        raise UserError("no model is named: --model MODEL, or --model hf --model_args pretrained=MODEL")
    if adapters and adapter is not None:
        raise UserError(f"two adapters are named: --adapter {adapter} and {adapters[0]}")
    return model, backend, rest, adapter or next(iter(adapters), None)
