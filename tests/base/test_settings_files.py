"""Numbers, text and keys of settings, in files and on the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from lens_eval.base import settings_files
from lens_eval.base.errors import UserError
from lens_eval.commands.options import read_pairs
from lens_eval.commands.train import _axes, _settings
from lens_train.config import LensConfig


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("-2e3", -2e3),
        ("+1.5e+3", 1500.0),
        ("1.0e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("5e-1", 0.5),
        (".inf", math.inf),
        ("7", 7),
        ("'1e-4'", "1e-4"),
        ('"1e-4"', "1e-4"),
        ("1e", "1e"),
        ("e4", "e4"),
        ("1e-4 of it", "1e-4 of it"),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("-", [None]),
        ("true", True),
        ("[1e-5, 3e-5, cosine]", [1e-5, 3e-5, "cosine"]),
        ("{zh: 5e-1, no: 1}", {"zh": 0.5, "no": 1}),
        ("{1e-4: 1, yes: 2}", {"1e-4": 1, "yes": 2}),
    ],
)
def test_values(text: str, value: Any) -> None:
    read = settings_files.parse(text, "it")
    assert read == value
    assert type(read) is type(value)


def test_yaml_1_1_reads_text() -> None:
    """The control: what PyYAML makes of the same by itself."""
    assert yaml.safe_load("1e-4") == "1e-4"
    assert yaml.safe_load("{no: 1}") == {False: 1}


def test_everywhere_a_user_writes_a_rate(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("learning_rate: 1e-4\nsystem_prompt: '1e-4'\n")
    read = _settings(file, None, None)
    assert read == {"learning_rate": 1e-4, "system_prompt": "1e-4"}
    assert LensConfig.build(("en", "zh"), "en", read).learning_rate == 1e-4
    assert _settings(file, ["learning_rate=3e-5"], None)["learning_rate"] == 3e-5
    assert _axes(["learning_rate=1e-5,3e-5", "retain_over=mean,tokens"]) == {
        "learning_rate": [1e-5, 3e-5],
        "retain_over": ["mean", "tokens"],
    }
    assert read_pairs("temperature=1e-1,revision=main") == {"temperature": 0.1, "revision": "main"}


def test_text_in_place_of_a_number_is_refused_and_so_is_infinity() -> None:
    assert LensConfig.build(("en", "zh"), "en", {"learning_rate": "1e-4"}).learning_rate == 1e-4
    for value in ("fast", math.inf, math.nan):
        with pytest.raises(UserError, match="learning_rate must be a number"):
            LensConfig.build(("en", "zh"), "en", {"learning_rate": value})


def test_a_mistake_in_the_syntax_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set x=\[ is not readable YAML"):
        _settings(None, ["x=["], None)
    with pytest.raises(UserError, match="cannot read the settings"):
        settings_files.read(tmp_path / "absent.yaml")


# PyYAML itself loses a line break within text that is no "\n".
_WORDS = some.text(some.sampled_from("01e+-._:#'\" {}[],&*!|>%@`~aé语\n\t"), max_size=8)


@given(
    some.dictionaries(
        _WORDS,
        some.one_of(
            some.floats(allow_nan=False),
            some.integers(),
            some.booleans(),
            _WORDS,
            some.lists(some.sampled_from(["1e-4", "1e5", "no", "0x1f", ".5", "1.e3", "null", "1_0e2"])),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read_back(settings: dict[str, Any]) -> None:
    assert settings_files.parse(settings_files.write(settings), "it") == settings
