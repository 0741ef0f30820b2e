"""The hf backend: the replies of lm_eval's own; ended rows leave, loops are written on, not computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch

from lens_eval.base.errors import UserError
from lens_eval.runs.keys import Identities
from lens_eval.runs.recipe import parse_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_world.make_model(tmp_path_factory.mktemp("tiny") / "model")


def load(folder: Path, ours: bool = True, **arguments: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    from lens_eval.backends.hf import LensHF

    kind = LensHF if ours else HFLM
    return kind(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, **arguments)


def requests(settings: dict[str, Any], count: int = 10) -> list[Any]:
    from lm_eval.api.instance import Instance

    prompts = [f"{'What follows? ' * (place % 4)}{place * 7919}" for place in range(count)]
    return [Instance("generate_until", {}, (prompt, dict(settings)), 0) for prompt in prompts]


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    load(copy)  # the control
    tensors = load_file(copy / "model.safetensors")
    tensors["model.embed_token.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"missing.*model\.embed_tokens\.weight.*model\.embed_token\.weight"):
        load(copy)


def note_rows(lm: Any) -> list[int]:
    """Rows of each forward pass from now on."""
    rows: list[int] = []
    lm.model.lm_head.register_forward_hook(lambda _m, _i, logits: rows.append(len(logits)))
    return rows


def test_replies_are_those_of_the_bare_backend(folder: Path) -> None:
    plain, ours = load(folder, ours=False), load(folder)
    whole = plain.generate_until(requests({"until": [], "max_gen_toks": 40, "do_sample": False}), True)
    stops = [reply[len(reply) // 2 :][:2] for reply in whole[:3]]
    settings = {"until": stops, "max_gen_toks": 40, "do_sample": False}
    expected = plain.generate_until(requests(settings), True)
    assert len({len(reply) for reply in expected}) > 2, "a control: replies end at different places"
    theirs, own = note_rows(plain), note_rows(ours)
    assert plain.generate_until(requests(settings), True) == expected
    assert ours.generate_until(requests(settings), True) == expected
    assert sum(own) < sum(theirs), "rows that have come to a stop sequence leave"


def options(count: int = 12) -> list[Any]:
    """Requests of several lengths; of one prompt several options, of one token and of more."""
    from lm_eval.api.instance import Instance

    asked = []
    for place in range(count):
        prompt = f"{'What follows? ' * (place % 5)}{place * 7919}"
        asked += [Instance("loglikelihood", {}, (prompt, option), 0) for option in (" 1", " 2", " 12 34 56")]
    return asked


def note_positions(lm: Any) -> list[tuple[int, int]]:
    """Rows and positions of the logits of each forward pass from now on."""
    shapes: list[tuple[int, int]] = []
    lm.model.lm_head.register_forward_hook(lambda _m, _i, logits: shapes.append(tuple(logits.shape[:2])))
    return shapes


def test_scores_are_those_of_the_bare_backend_with_fewer_logits(folder: Path) -> None:
    plain, ours = load(folder, ours=False), load(folder)
    theirs, own = note_positions(plain), note_positions(ours)
    expected, found = (lm.loglikelihood(options(), True) for lm in (plain, ours))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    torch.testing.assert_close(
        torch.tensor([score for score, _ in found]), torch.tensor([score for score, _ in expected])
    )
    assert len({score for score, _ in expected}) > 20, "a control: the options differ"
    assert len(own) == len(theirs), "as many passes"
    assert sum(rows * kept for rows, kept in own) < 0.5 * sum(rows * kept for rows, kept in theirs)


def test_long_prompts_are_scored_by_their_last_tokens(folder: Path) -> None:
    plain, ours = load(folder, ours=False, max_length=9), load(folder, max_length=9)
    expected, found = (lm.loglikelihood(options(), True) for lm in (plain, ours))
    torch.testing.assert_close(
        torch.tensor([score for score, _ in found]), torch.tensor([score for score, _ in expected])
    )


def test_a_batch_is_as_large_as_its_logits_allow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lens_train import generation

    lm = load(folder)
    expected = lm.loglikelihood(options(), True)
    monkeypatch.setattr(generation, "MEMORY", 12 * generation.logits_bytes(lm.model))
    shapes = note_positions(lm)
    found = lm.loglikelihood(options(), True)
    assert max(rows * kept for rows, kept in shapes) <= 12
    torch.testing.assert_close(
        torch.tensor([score for score, _ in found]), torch.tensor([score for score, _ in expected])
    )


def test_whole_texts_are_scored_as_by_the_bare_backend(folder: Path) -> None:
    from lm_eval.api.instance import Instance

    texts = [Instance("loglikelihood_rolling", {}, (f"one two {place} " * 9,), 0) for place in range(3)]
    plain, ours = (load(folder, mine).loglikelihood_rolling(texts, True) for mine in (False, True))
    assert plain == pytest.approx(ours)


@pytest.mark.parametrize("settings", [{"do_sample": True, "temperature": 0.7}, {"num_beams": 2}], ids=str)
def test_what_is_not_greedy_goes_the_bare_way(folder: Path, settings: dict[str, Any]) -> None:
    asked = {"until": [], "max_gen_toks": 12, **settings}
    greedy = load(folder).generate_until(requests({"until": [], "max_gen_toks": 12}), True)
    found = []
    for ours in (False, True):
        torch.manual_seed(0)
        found.append(load(folder, ours).generate_until(requests(asked), True))
    assert found[0] == found[1] != greedy


def repeat(lm: Any) -> None:
    """Have the model repeat the last token of the prompt for ever."""
    model = lm.model
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        rows = torch.nn.functional.normalize(torch.randn(model.config.vocab_size, model.config.hidden_size))
        model.model.embed_tokens.weight.copy_(rows)
        model.lm_head.weight.copy_(rows)


def test_a_loop_is_written_on_and_not_computed(folder: Path) -> None:
    settings = {"until": [], "max_gen_toks": 90, "do_sample": False}
    found, steps = {}, {}
    for name, lm in {
        "bare": load(folder, ours=False),
        "on": load(folder),
        "off": load(folder, stop_loops=False),
    }.items():
        torch.manual_seed(0)
        repeat(lm)
        rows = note_rows(lm)
        found[name] = lm.generate_until(requests(settings, 3), True)
        steps[name] = len(rows)
    assert found["on"] == found["off"] == found["bare"]
    assert {len(reply) for reply in found["bare"]} == {90}
    assert steps == {"bare": 90, "on": 64, "off": 90}


def test_stop_loops_is_checked_and_is_part_of_a_cells_key(folder: Path) -> None:
    with pytest.raises(UserError, match="stop_loops must be true or false"):
        load(folder, stop_loops="often")

    def recipe(model: str = "hf", **arguments: Any) -> Any:
        backend = {"model": model, "args": arguments}
        raw = {"name": "x", "backbone": str(folder), "languages": ["en", "sw"], "tasks": ["lens_mini"]}
        return parse_recipe({**raw, "variants": {"backbone": {}}, "backend": backend})

    with pytest.raises(UserError, match="stop_loops: expected true or false"):
        recipe(stop_loops="often")
    with pytest.raises(UserError, match="a setting of the backend hf, not of vllm"):
        recipe("vllm", stop_loops=False)
    from lens_eval.runs.recipe import rows_of
    from lens_eval.runs.task_index import EvalTask

    task = EvalTask("lens_mini", "lens_mini", "en", 1, 1, {"task": "lens_mini"}, None)
    keys = {
        Identities(own, "cpu").cell(rows_of(own)[0], task)
        for own in (recipe(), recipe(stop_loops=True), recipe(stop_loops=False))
    }
    assert len(keys) == 3


def test_a_penalty_in_the_models_files_does_not_choose(folder: Path, tmp_path: Path) -> None:
    """vLLM reads none either; the bare backend is the control."""
    penalised = tmp_path / "model"
    penalised.mkdir()
    for file in folder.iterdir():
        (penalised / file.name).write_bytes(file.read_bytes())
    (penalised / "generation_config.json").write_text(
        '{"repetition_penalty": 5.0, "no_repeat_ngram_size": 2}'
    )
    asked = {"until": [], "max_gen_toks": 30, "do_sample": False}
    expected = load(folder).generate_until(requests(asked), True)
    assert load(penalised, ours=False).generate_until(requests(asked), True) != expected
    assert load(penalised).generate_until(requests(asked), True) == expected
