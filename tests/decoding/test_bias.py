"""bias: which tokens fit a script, what happens to logits, and that replies follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_helpers import make_job, make_model, many_items, write_lines
from hypothesis import given
from hypothesis import strategies as st

from lens_eval import mini
from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import load_model
from lens_train.decoding.decoding import Decoding
from lens_train.decoding.tokens import fits, token_bytes
from lens_train.job import Job, Variant

TOKENS = {"sw": torch.tensor([True, True, False, False]), "zh": torch.tensor([False, True, True, False])}
BASE = {"name": "none", "weights_sha256": "0"}


def rule(bias: float = 5.0, margin: float = 0.8) -> Decoding:
    return Decoding(TOKENS, bias, margin, BASE)


def logits(*shares: float) -> torch.Tensor:
    return torch.tensor([shares]).log()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", many_items(2))


def test_tokens_that_fit_are_raised_where_the_two_best_are_close() -> None:
    given_logits = logits(0.2, 0.1, 0.6, 0.1)
    assert torch.allclose(
        rule().change(given_logits, "sw") - given_logits, torch.tensor([[5.0, 5.0, 0.0, 0.0]])
    )
    # .6 - .2 = .4 apart: a smaller margin leaves the row alone, as does a model that is sure.
    assert torch.equal(rule(margin=0.3).change(given_logits, "sw"), given_logits)
    sure = logits(0.02, 0.02, 0.95, 0.01)
    assert torch.equal(rule().change(sure, "sw"), sure)
    assert rule(margin=1.0).change(sure, "sw").argmax() == 0


def test_each_language_has_its_own_rule_and_rows_beyond_the_vocabulary_fit_none() -> None:
    wide = logits(0.2, 0.1, 0.3, 0.1, 0.3)
    assert rule().change(wide, "sw").argmax() == 0
    assert rule().change(wide, "zh").argmax() == 2
    assert rule().change(wide, "zh")[0, 4] == wide[0, 4]
    with pytest.raises(UserError, match="knows none of 'fr'; it has sw, zh"):
        rule().change(wide, "fr")


@pytest.mark.parametrize(
    ("text", "groups", "expected"),
    [
        ("nyumba", {"Latn"}, True),
        ("nyumba", {"CJK"}, False),
        ("12, ", {"CJK"}, True),
        ("首都", {"CJK"}, True),
        ("の", {"CJK"}, True),
        ("首都a", {"CJK"}, False),
        ("كينيا", {"Arab"}, True),
        ("د", {"Latn"}, False),
        ("é", {"Latn"}, True),
        ("", {"Arab"}, True),
        ("ⴰ", {"Latn"}, False),
    ],
)
def test_a_token_fits_if_each_of_its_letters_does(text: str, groups: set[str], expected: bool) -> None:
    assert fits(text.encode(), groups) is expected


def test_parts_of_a_character_fit_where_they_can_be() -> None:
    han, arab = "首".encode(), "د".encode()
    assert fits(han[:1], {"CJK"})
    assert fits(han[1:], {"CJK"})
    assert not fits(han[:1], {"Arab"})
    assert fits(arab[:1], {"Arab"})
    assert not fits(arab[:1], {"CJK"})
    assert fits(b"1" + han[:2], {"CJK"})
    assert not fits(b"a" + han[:2], {"CJK"})


@given(st.text(alphabet="首都的の。1 ", min_size=1, max_size=4), st.data())
def test_every_piece_of_a_fitting_text_fits(text: str, draw: Any) -> None:
    whole = text.encode()
    begin = draw.draw(st.integers(0, len(whole)))
    end = draw.draw(st.integers(begin, len(whole)))
    assert fits(whole[begin:end], {"CJK"})


def test_the_bytes_of_tokens_are_those_of_the_text() -> None:
    tokenizer = Checkpoint.open(str(mini.backbone_path())).tokenizer
    pieces = token_bytes(tokenizer)
    for text in ("Nairobi ni mji.", "肯尼亚的首都", "عاصمة كينيا"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert b"".join(pieces[number] for number in ids).decode().strip() == text


def test_a_reply_of_a_random_model_stays_in_the_script(folder: Path, data: Path, tmp_path: Path) -> None:
    methods.train(make_job(folder, data, tmp_path / "bias", "bias", bias=50.0, margin=1.0))
    decoding = Decoding.load(tmp_path / "bias")
    model, tokenizer = load_model(str(folder)), Checkpoint.open(str(folder)).tokenizer
    ids = torch.tensor([[1, 40, 41, 42]])

    def written(**more: Any) -> list[bytes]:
        out = model.generate(ids, max_new_tokens=12, do_sample=False, **more)[0, 4:]
        return [token_bytes(tokenizer)[number] for number in out.tolist()]

    assert not all(fits(token, {"CJK"}) for token in written())
    assert all(fits(t, {"CJK"}) for t in written(logits_processor=[decoding.processor("zh")]))
    assert all(fits(t, {"Latn"}) for t in written(logits_processor=[decoding.processor("sw")]))


def test_the_folder_says_what_it_is_and_which_languages_it_cannot_tell_apart(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods.train(make_job(folder, data, tmp_path / "bias", "bias"))
    variant = Variant.load(tmp_path / "bias")
    assert (variant.kind, variant.tokens_seen) == ("decoding", 0)
    assert variant.data["not_told_from_central"] == ["sw"]
    assert "bias cannot tell sw from en" in capsys.readouterr().out
    assert (Decoding.load(tmp_path / "bias").bias, Decoding.load(tmp_path / "bias").margin) == (5.0, 0.8)


def test_settings_that_cannot_be_met(folder: Path, data: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"bias": 0}, "would change nothing"),
        ({"margin": 2}, "from 0 to 1"),
        ({"strength": 1}, "no setting strength"),
    ):
        with pytest.raises(UserError, match=message):
            methods.train(make_job(folder, data, tmp_path / "out", "bias", **settings))
    one = Job("bias", str(folder), data, ("en", "sw"), tmp_path / "out", device="cpu")
    with pytest.raises(UserError, match="en, sw have the same one"):
        methods.train(one)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="holds no decoding"):
        Decoding.load(tmp_path)


def test_lm_eval_writes_each_reply_in_the_language_of_its_item(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    from lm_eval.api.instance import Instance

    from lens_eval.backends.decoded import DecodedLM

    methods.train(make_job(folder, data, tmp_path / "bias", "bias", bias=50.0, margin=1.0))
    lm = DecodedLM(str(folder), str(tmp_path / "bias"), device="cpu", dtype="float32", batch_size=2)
    settings = {"until": [], "max_gen_toks": 6, "do_sample": False}
    requests = [
        Instance("generate_until", {"language": code}, ("What follows 3?", settings), 0)
        for code in ("sw", "zh", "sw")
    ]
    found = lm.generate_until(requests, disable_tqdm=True)
    assert found[0] == found[2] != found[1]
    assert found[0].isascii()
    with pytest.raises(UserError, match="knows none of 'fr'"):
        lm.generate_until([Instance("generate_until", {"language": "fr"}, ("x", settings), 0)])


def test_a_decoding_of_another_model_is_refused(tmp_path: Path) -> None:
    from lens_eval.backends.steering import load_decoding

    rule().save(tmp_path)
    with pytest.raises(UserError, match="was made for none, not for"):
        load_decoding(tmp_path, str(mini.backbone_path()))
