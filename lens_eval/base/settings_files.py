"""Settings as YAML, read and written one way everywhere: files, recipes, and values on the command line.

YAML 1.1, which PyYAML speaks, takes `1e-4` for text: its numbers need a point and a sign (`1.0e-4`). YAML 1.2
reads a number, as everybody expects; so does this module. What is quoted stays text. The keys of a mapping
stay as written: a variant may be called `1e-4`, and `no` is a language.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lens_eval.base.errors import UserError
from lens_eval.base.reading import read_text

LARGEST = 4 << 20
"""Characters of settings."""
LARGEST_NUMBER = 1 << 1000
"""A larger whole number is no float."""
MOST_VALUES = 100_000
"""Values in settings, those of an alias counted every time."""
_FLOAT_TAG, _BOOL_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode) and key.tag in (_FLOAT_TAG, _BOOL_TAG):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    pass


for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _FLOAT_TAG]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    # The dumper has it too: text that looks like such a number is written in quotes.
    _kind.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))


def parse(text: str, what: str) -> Any:
    """Read YAML.

    Args:
        text: a document or a single value.
        what: what is read, for the message.

    Raises:
        UserError: not YAML.
    """
    if len(text) > LARGEST:
        raise UserError(f"{what} is too large to be settings")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError, TypeError, KeyError) as error:
        raise UserError(f"{what} is not readable YAML: {_in_a_line(error)}") from None
    if _count(value, what) > MOST_VALUES:
        raise UserError(f"{what} is too large, or repeats itself too often, to be settings")
    return value


def _in_a_line(error: Exception) -> str:
    """What is wrong, and on which line, as far as the error says."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark is not None else ""
    words = str(getattr(error, "problem", None) or error)
    return place + (" ".join(words.split())[:300] or type(error).__name__)


def _count(value: Any, what: str) -> int:
    """Values inside of a value, as far as `MOST_VALUES`: aliases can repeat without end.

    Raises:
        UserError: a whole number that is too large.
    """
    count, waiting = 0, [value]
    while waiting and count <= MOST_VALUES:
        each = waiting.pop()
        count += 1
        if isinstance(each, int) and abs(each) > LARGEST_NUMBER:
            raise UserError(
                f"{what} holds the number {str(each)[:20]}..., which is too large for any setting"
            )
        if isinstance(each, dict | list):
            waiting += each.values() if isinstance(each, dict) else each
    return count


def read(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: no such file, or not YAML.
    """
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(f"cannot read the settings in {path}: {error}") from None
    return parse(text, str(path))


def write(settings: Any, width: int = 80) -> str:
    """Settings as YAML that `parse` reads back to the same values; keys keep their order."""
    return yaml.dump(settings, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=width)
