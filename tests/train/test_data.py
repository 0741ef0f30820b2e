"""Reading parallel prompts, and rendering them through the chat template exactly once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.base.errors import UserError
from lens_train.data import Renderer, read_prompts, read_rows

EN, ZH = "What is a cat?", "猫是什么？"


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "prompt": {"en": EN, "zh": ZH}},
        {"prompt.en": EN, "prompt.zh": ZH, "response.en": "An animal."},
        {"en": EN, "zh": ZH},
        {"input_en": EN, "input_zh": ZH, "output": ""},
        {"prompt": {"en": EN, "zh-CN": ZH}},
    ],
)
def test_layouts_of_a_row(tmp_path: Path, row: dict[str, Any]) -> None:
    found = read_prompts(write(tmp_path / "data.jsonl", row), ["en", "zh"])
    assert found.texts == {"en": (EN,), "zh": (ZH,)}


def test_layouts_of_files(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps({"Instances": [{"input_en": EN, "input_zh": ZH}] * 3}))
    assert len(read_prompts(tmp_path, ["en", "zh"])) == 3
    assert len(read_prompts(tmp_path / "train.json", ["en", "zh"], limit=2)) == 2
    folder = tmp_path / "columns"
    folder.mkdir()
    write(folder / "en.jsonl", {"text": EN}, {"text": EN})
    (folder / "zh.txt").write_text(f"{ZH}\n{ZH}\n", encoding="utf-8")
    assert read_prompts(folder, ["en", "zh"]).texts["en"] == (EN, EN)


def test_the_released_files(shared: Path) -> None:
    official = shared / "data" / "lens_official"
    languages = ["en", "zh", "ja", "ko", "ar", "sw", "bn"]
    assert len(read_prompts(official / "aya_en_zh_300", ["en", "zh"])) == 300
    assert len(read_prompts(official / "aya_en_zh_ja_ar_ko_bn_sw_300", languages)) == 300
    train = read_prompts(official / "language_pull_data_alpaca_safe_200", languages)
    assert len(train) == 200
    assert train.texts["sw"][0].startswith("Toa vidokezo")
    assert len(read_prompts(shared / "data" / "ntrex_parallel", ["en", "sw"], 10)) == 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"en": EN, "zh": ZH}, {"en": EN}], r"data\.jsonl, line 2: no prompt in 'zh'; the item holds: en"),
        ([{"prompt": {"en": EN}}], r"line 1: no prompt in 'zh'; the item holds: prompt\.en"),
        (
            [{"en": EN, "zh": ZH}, {"en": EN, "zh": "  \n"}],
            r"data\.jsonl, line 2: the prompt in 'zh' is empty",
        ),
        ([{"en": EN, "zh": 3}], r"line 1: the prompt in 'zh' is empty"),
        ([[EN, ZH]], r"line 1: an item must be an object, found list"),
        ([], r"data\.jsonl holds no items"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_prompts(write(tmp_path / "data.jsonl", *rows), ["en", "zh"])


@pytest.mark.parametrize("name", ["17", "item-3", "a_b", 17, "q 17", "Item #3", "3) item"])
@pytest.mark.parametrize("field", ["id", "prompt_id", "input_id"])
def test_the_number_of_an_item_is_no_indonesian_prompt(tmp_path: Path, name: Any, field: str) -> None:
    row = {field: name, "prompt_en": EN, "input_en": EN, "en": EN}
    with pytest.raises(UserError, match=rf"the field '{field}' holds .* names the item"):
        read_prompts(write(tmp_path / "data.jsonl", row), ["en", "id"])
    # Controls: a prompt in that field, and a number as a prompt by language.
    for good in ({**row, field: "Apa itu kucing?"}, {"prompt": {"en": EN, "id": "17"}}):
        assert read_prompts(write(tmp_path / "data.jsonl", good), ["en", "id"]).texts["en"] == (EN,)


def test_the_number_of_an_item_is_no_norwegian_prompt(tmp_path: Path) -> None:
    for name in ("17", 17, "item 3"):
        with pytest.raises(UserError, match=r"the field 'no' holds .* names the item"):
            read_prompts(write(tmp_path / "data.jsonl", {"no": name, "en": EN}), ["en", "nb"])
    read_prompts(write(tmp_path / "data.jsonl", {"no": "Hva er en katt?", "en": EN}), ["en", "nb"])


def test_the_number_of_an_item_is_no_pair_and_no_translation(tmp_path: Path) -> None:
    from lens_train.baselines.pairs import read_pairs
    from lens_train.baselines.translate import Table

    row = {"prompt_id": "17", "prompt.en": EN, "response.en": "An animal.", "response.id": "Hewan itu."}
    with pytest.raises(UserError, match="names the item"):
        read_pairs(write(tmp_path / "pairs.jsonl", row), ("en", "id"))
    read_pairs(write(tmp_path / "pairs.jsonl", {**row, "prompt_id": "Apa itu kucing?"}), ("en", "id"))
    with pytest.raises(UserError, match="names the item"):
        Table.read(write(tmp_path / "words.jsonl", {"id": "17", "en": EN}), ("en", "id"))
    assert Table.read(write(tmp_path / "words.jsonl", {"id": "17", "en": EN, "zh": ZH}), ("en", "zh")).texts


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no parallel data at"):
        read_prompts(tmp_path / "absent.jsonl", ["en", "zh"])
    (tmp_path / "broken.jsonl").write_text('{"en": "a"}\n{"en": \n')
    with pytest.raises(UserError, match=r"broken\.jsonl, line 2: not JSON"):
        read_rows(tmp_path / "broken.jsonl")
    columns = tmp_path / "columns"
    columns.mkdir()
    write(columns / "en.jsonl", {"text": EN}, {"text": EN})
    with pytest.raises(UserError, match="no file for zh; it has: en"):
        read_prompts(columns, ["en", "zh"])
    write(columns / "zh.jsonl", {"text": ZH})
    with pytest.raises(UserError, match=r"unequal numbers of prompts .*en\.jsonl: 2, .*zh\.jsonl: 1"):
        read_prompts(columns, ["en", "zh"])
    write(columns / "zh.jsonl", {"text": ZH}, {"text": ""})
    with pytest.raises(UserError, match=r"zh\.jsonl, line 2: the prompt is empty"):
        read_prompts(columns, ["en", "zh"])


def test_the_template_is_applied_exactly_once() -> None:
    words = tiny_lens.tokenizer()
    ids = Renderer(words, "chat", None)([EN], 64)[0]
    assert words.decode(ids) == f"<s><|user|>\n{EN}<|end|>\n<|assistant|>\n"
    assert ids.count(words.bos_token_id) == 1
    system = Renderer(words, "chat", "Be brief.")([EN], 64)[0]
    assert words.decode(system).startswith("<s><|system|>\nBe brief.<|end|>\n<|user|>")
    assert words.decode(Renderer(words, "plain", None)([EN], 64)[0]) == EN


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.integers(1, 12))
def test_prompts_are_cut_before_templating(text: str, limit: int) -> None:
    words = tiny_lens.tokenizer()
    frame = words.decode(Renderer(words, "chat", None)(["x"], 64)[0]).split("x")
    whole = words.decode(Renderer(words, "chat", None)([text], limit)[0], clean_up_tokenization_spaces=False)
    assert whole.startswith(frame[0])
    assert whole.endswith(frame[1])
    kept = whole[len(frame[0]) : len(whole) - len(frame[1])]
    assert text.strip().startswith(kept)
    # A character of several bytes is kept whole, so up to three more tokens than the limit may remain.
    assert len(words(kept)["input_ids"]) <= limit + 3


def test_the_released_way_cuts_the_template_off() -> None:
    words = tiny_lens.tokenizer()
    cut = Renderer(words, "chat", None, cut_after=True)([EN], 20)[0]
    assert words.decode(cut) == f"<s><|user|>\n{EN}"[: len("<s><|user|>\n") + 10]


def test_models_without_a_fitting_template() -> None:
    words = tiny_lens.tokenizer()
    words.chat_template = None
    with pytest.raises(UserError, match=r"has no chat template.*template: plain"):
        Renderer(words, "chat", None)
    assert Renderer(words, "plain", None)(["ab"], 8)
    words.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UserError, match="System role not supported"):
        Renderer(words, "chat", "Be brief.")


def test_the_template_gets_its_arguments_and_the_release_its_system_message() -> None:
    from lens_train.config import LensConfig
    from lens_train.probing import renderer

    words = tiny_lens.tokenizer()

    template = tiny_lens.TEMPLATE.replace("<|assistant|>\n", "<|assistant|>\n{{ '#' if thinking is false }}")
    words.chat_template = template

    def rendered(stage: str = "train", **settings: Any) -> str:
        return words.decode(renderer(words, LensConfig(("en", "zh"), **settings), stage)(["x"], 64)[0])

    assert not rendered().endswith("#")
    assert rendered(template_args={"thinking": False}).endswith("#")
    assert rendered("probe", template_args={"thinking": False}).endswith("#")
    # As released: an empty system message in Llama's training; what is given, in Phi's.
    assert "<|system|>\n<|end|>" in rendered(compat="official")
    assert "<|system|>\nBe kind.<|end|>" in rendered(compat="official", system_prompt="Be kind.")
    assert "helpful assistant" in rendered("probe", compat="official", system_prompt="Be kind.")
