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


_SERVED = ("local-chat-completions", "openai-chat-completions")
"""What lm_eval calls the backend `endpoint`."""


def model_of(
    model: str | None,
    backend: str,
    arguments: Mapping[str, Any],
    adapter: str | None,
    name: str | None = None,
) -> tuple[str, str, dict[str, Any], str | None]:
    """Model, backend, further arguments and adapter, also where they are given in lm_eval's words.

    There `--model` is the backend, and the model stands in `--model_args pretrained=...` (or `model=...`).

    Args:
        name: of a model behind an endpoint.

    Raises:
        UserError: no model is named, or two are.
    """
    from lens_eval.runs.recipe import BACKENDS

    backends = (*BACKENDS, *_SERVED)
    rest = dict(arguments)
    served = model in ("endpoint", *_SERVED) or (backend == "endpoint" and model is None)
    keys = ("pretrained", "model") if served else ("pretrained",)
    named = [str(rest.pop(key)) for key in keys if key in rest]
    named += [] if name is None else [name]
    adapters = [str(rest.pop(key)) for key in ("peft", "lora_local_path") if key in rest]
    if len(named) > 1 or (named and model is not None and model not in backends):
        both = [*([] if model is None or model in backends else [model]), *named]
        raise UserError(
            f"two models are named: {' and '.join(both)}; with pretrained= or --name, "
            f"--model is the backend: {', '.join(BACKENDS)}"
        )
    if named:
        backend, model = model or backend, named[0]
    elif model in backends and not Path(str(model)).exists():
        raise UserError(
            f"--model {model} is a backend and names no model: add --model_args pretrained=MODEL "
            f"(behind an endpoint --name MODEL), or say --model MODEL --backend {model}"
        )
    if model is None:
        raise UserError("no model is named: --model MODEL, or --model hf --model_args pretrained=MODEL")
    if len(adapters) + (adapter is not None) > 1:
        raise UserError(f"two adapters are named: {adapter or adapters[1]} and {adapters[0]}")
    backend = "endpoint" if backend in _SERVED else backend
    return model, backend, rest, adapter or next(iter(adapters), None)
