"""Arguments of models and of generation as lm_eval's command line reads them."""

from __future__ import annotations

from typing import Any

from lens_eval.base.errors import UserError


def read(text: str, option: str) -> dict[str, Any]:
    """`a=1,b=x,c=["y","z"]` or a JSON object as a mapping.

    Args:
        option: what the text was given for, for the message.

    Raises:
        UserError: it is neither.
    """
    from lm_eval._cli.utils import key_val_to_dict, try_parse_json

    plain = text.strip()
    try:
        found = try_parse_json(plain) if plain.startswith("{") else None
        pairs = found if isinstance(found, dict) else key_val_to_dict(plain)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option}: {text!r} is not key=value,... ({error})") from None
    return {str(k).strip(): v.strip() if isinstance(v, str) else v for k, v in pairs.items()}
