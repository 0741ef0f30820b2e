"""`lens assess`: what it says of a model that needs Lens, of one that does not, and of one past help."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_lens
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_train.watch.assess import Assessment, assess, conclusion, verdict


def shares(**own: float) -> dict[str, float]:
    names = ("off_target", "central", "other", "undetermined", "loop", "echo", "empty", "usable")
    return {name: own.get(name, 0.0) for name in names}


@pytest.mark.parametrize(
    ("own", "cost", "words"),
    [
        (
            shares(off_target=0.8, central=0.8, usable=0.2),
            1.2,
            "for Lens: it answers in the central language",
        ),
        (shares(off_target=0.8, central=0.8, usable=0.2), 4.0, "may hardly know the language"),
        (shares(loop=0.6, usable=0.2), 1.2, "does not write the language"),
        (shares(off_target=0.5, other=0.5, usable=0.4), 1.2, "does not write the language"),
        (shares(usable=0.95), 1.2, "nothing to repair"),
        (shares(off_target=0.1, central=0.1, usable=0.8), 1.2, "little for Lens"),
    ],
)
def test_the_verdict_on_a_language(own: dict[str, float], cost: float, words: str) -> None:
    assert words in verdict(own, cost, central=False)
    assert verdict(own, cost, central=False, sound=False).startswith("unclear")


def test_the_conclusion_names_the_languages_that_lens_can_help() -> None:
    fine = Assessment("en", shares(usable=1.0), 1.0, "as it should be", ())
    helped = Assessment("sw", shares(off_target=1.0, central=1.0), 1.1, "for Lens: it answers so", ())
    ruined = Assessment("en", shares(loop=1.0), 1.0, "too few usable replies", ())
    assert "Lens can help with sw." in conclusion([fine, helped])
    assert "chat template" in conclusion([ruined, helped])


def test_the_built_in_model_is_one_for_lens() -> None:
    found = assess("builtin", "builtin:dev", ("en", "zh", "sw"), "en", {}, items=20, tokens=48)
    assert [own.language for own in found] == ["en", "zh", "sw"]
    assert found[0].shares["usable"] > 0.9
    assert found[0].cost == 1
    for own in found[1:]:
        assert own.shares["central"] > 0.4
        assert own.verdict.startswith("for Lens")


def test_a_model_of_random_weights_is_not(tmp_path: Path) -> None:
    """The control: it writes no language, so nothing is promised."""
    model = tiny_lens.save_model(tmp_path / "model")
    data = tiny_lens.save_prompts(tmp_path / "data.jsonl")
    found = assess(model, data, ("en", "zh", "sw"), "en", {}, tokens=24)
    assert [own.verdict for own in found[1:]] == ["unclear: the central language fails too"] * 2
    assert "chat template" in conclusion(found)
    with pytest.raises(UserError, match="does not fit into memory"):
        assess(model, data, ("en", "zh"), "en", {"stream": "always"})


def test_the_command_prints_replies_and_what_follows() -> None:
    given = ["assess", "builtin", "--data", "builtin:dev", "--languages", "en,sw", "--limit", "8"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "> " in done.output
    assert "Lens can help with sw" in " ".join(done.output.split())
