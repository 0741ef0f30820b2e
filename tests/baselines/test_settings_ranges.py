"""Settings of every method: types and ranges are checked when they are read, whatever wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.config import LensConfig

WRONG = [
    ("xsft", {"warmup": 3}),
    ("xsft", {"warmup": -0.1}),
    ("xsft", {"learning_rate": "much"}),
    ("xsft", {"learning_rate": float("nan")}),
    ("xsft", {"clip_norm": float("inf")}),
    ("xsft_top", {"trained_layers": 0}),
    ("xsft_top", {"trained_layers": -3}),
    ("xsft_top", {"trained_layers": 2.0}),
    ("xsft_lora", {"rank": 0}),
    ("xsft_lora", {"alpha": 0}),
    ("xsft_lora", {"dropout": 1.5}),
    ("xsft_lora", {"targets": []}),
    ("sdrrl", {"switch_share": 2}),
    ("sdrrl", {"answer_tokens": 0}),
    ("sdrrl", {"parts": []}),
    ("sdrrl", {"answer_batch": 0}),
    ("sdrrl", {"switch_share": -0.1}),
    ("sdrrl", {"translator": 5}),
    ("diffmean", {"strength": float("inf")}),
    ("diffmean", {"layer": 1.0}),
    ("diffmean", {"text_items": 0}),
    ("recover", {"layers": [1.5]}),
    ("recover", {"layers": 3}),
    ("liseco", {"error": 0.5}),
    ("liseco", {"penalty": 0}),
    ("bias", {"margin": 2}),
    ("bias", {"bias": "much"}),
    ("steer", {"probe_items": "300"}),
    ("steer", {"rank": 0}),
    ("steer", {"rank": "1"}),
    ("steer", {"add_strength": float("nan")}),
    ("lens", {"probe_items": 0}),
    ("lens", {"train_items": 0}),
    ("lens", {"steps": 0}),
    ("lens", {"epochs": 1.5}),
    ("lens", {"learning_rate": -1}),
    ("lens", {"displacement": {"zh": "1"}}),
    ("lens", {"displacement": float("nan")}),
    ("lens", {"template_args": "no"}),
    ("lens", {"system_prompt": 5}),
    ("lens", {"scale_free": 1}),
    ("lens", {"trained_layers": []}),
    ("lens", {"loss_layers": []}),
    ("lens", {"rank": 1.0}),
    ("lens", {"rank": "1"}),
    ("lens", {"trained_layers": 2.0}),
    ("lens", {"trained_layers": 0}),
    ("lens", {"trained_layers": ["1"]}),
    ("lens", {"trained_layers": None}),
    ("lens", {"loss_layers": -1.5}),
    ("lens", {"loss_layers": [True]}),
    ("lens", {"warmup": 3}),
]


def _read(method: str, settings: dict[str, Any]) -> Any:
    if method == "lens":
        return LensConfig.build(("en", "zh", "sw"), "en", settings)
    kind = methods.settings_of(method)
    assert kind is not None
    return methods.read_settings(kind, settings, method)


@pytest.mark.parametrize(("method", "settings"), WRONG, ids=str)
def test_a_wrong_setting_is_refused_by_name(method: str, settings: dict[str, Any]) -> None:
    _read(method, {})  # the control
    with pytest.raises(UserError, match=next(iter(settings))):
        _read(method, settings)


@pytest.mark.parametrize("method", ["xsft", "xsft_lora", "sdrrl", "lens"])
def test_a_rate_is_a_number_however_yaml_spells_it(method: str) -> None:
    assert _read(method, {"learning_rate": "1e-4"}).learning_rate == 1e-4
    assert _read(method, {"learning_rate": 1e-4}).learning_rate == 1e-4


def test_a_process_that_is_alone_writes_whatever_rank_the_shell_has(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    assert (methods.process(), methods.processes()) == (1, 2), "a control: one of two"
    for name, value in launched.items():
        for other in (None, "none", ""):
            with monkeypatch.context() as changed:
                changed.delenv(name) if other is None else changed.setenv(name, other)
                assert (methods.process(), methods.processes()) == (0, 1), (name, other)
        monkeypatch.setenv(name, value)
