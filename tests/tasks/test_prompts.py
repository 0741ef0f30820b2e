"""A lint over every rendered prompt of every task and language, base and chat."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from task_items import Oracle, load_tasks, write_hub_copies

from lens_eval.language.languages import get_language
from lens_eval.tasks.generate import FAMILIES
from lens_eval.tasks.words import ARABIC_LETTERS, LETTERS, NO_SPACE, OFFICIAL_ARABIC_LETTERS, WORDS

GROUPS = [f"lens_{family.name}" for family in FAMILIES]
# How the characters of a script (ISO 15924) are named in Unicode.
SCRIPT_NAMES = {
    "Latn": "LATIN", "Arab": "ARABIC", "Cyrl": "CYRILLIC", "Thai": "THAI", "Grek": "GREEK",
    "Deva": "DEVANAGARI",
    "Beng": "BENGALI", "Hani": "CJK", "Hira": "HIRAGANA", "Kana": "KATAKANA", "Telu": "TELUGU",
    "Hang": "HANGUL", "Taml": "TAMIL", "Mymr": "MYANMAR", "Gujr": "GUJARATI", "Knda": "KANNADA",
    "Mlym": "MALAYALAM", "Armn": "ARMENIAN", "Hebr": "HEBREW", "Geor": "GEORGIAN", "Guru": "GURMUKHI",
    "Sinh": "SINHALA", "Ethi": "ETHIOPIC",
}  # fmt: skip
# Families whose options have the letters that the data set prints.
PRINTED = {family.items for family in FAMILIES if family.letters == "printed_letters"}
# Words that a language really shares with English.
SHARED = {
    "fr": {"option", "question"}, "de": {"in"}, "nl": {"letter"}, "es": {"final"}, "pt": {"final"},
    "it": {"in"}, "af": {"in", "is", "letter"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("items")
    write_hub_copies(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENS_DATA_DIR", str(folder))
        yield folder


@lru_cache(maxsize=2)
def tasks_of(group: str, folder: Path) -> dict[str, Any]:
    return load_tasks(group)["tasks"]


def is_official(name: str) -> bool:
    return "_official_" in name


def own_texts(doc: dict[str, Any]) -> list[str]:
    """Return the item's own texts, the longest first."""
    texts = [
        doc.get(key)
        for key in ("premise", "hypothesis", "sentence", "passage", "question", "published_question")
    ]
    if "turns" in doc:
        texts += doc["turns"]
    if "sentences" in doc:
        texts += [" ".join(doc["sentences"]), "".join(doc["sentences"])]
    return sorted((text for text in [*texts, *doc.get("choices", ())] if text), key=len, reverse=True)


def frame(prompt: str, doc: dict[str, Any]) -> str:
    """Return what a prompt adds to its item: the item's own texts become a sign."""
    for text in own_texts(doc):
        prompt = prompt.replace(text, "◆")
    return prompt.replace(r"\boxed{}", "◆")  # mathematics is written in LaTeX in every language


def letters_of(text: str) -> str:
    return "".join(character for character in text if unicodedata.category(character)[0] in "LM")


def check_frame(name: str, text: str, language: str, option_letters: tuple[str, ...]) -> None:
    """Check what a prompt adds to its item."""
    assert not re.search(r"[{}]|None|nan\b|\\n|!function", text), (name, text)
    assert "  " not in text, (name, text)
    assert not re.search(r"[ \t]\n|\n[ \t]|^\s|\s$", text), (name, text)
    assert "<s>" not in text
    assert "begin_of_text" not in text
    words = re.sub(rf"(?<!\w)[{''.join(option_letters)}](?!\w)", "", text)
    if is_official(name):
        return
    names = tuple(SCRIPT_NAMES[script] for script in get_language(language).scripts)
    if get_language(language).code == "ja":
        names = (*names, "CJK", "KATAKANA-HIRAGANA")
    foreign = {
        character
        for character in letters_of(words)
        if not unicodedata.name(character).startswith(names) and unicodedata.category(character) != "Mn"
    }
    assert not foreign, (name, foreign)
    if language != "en":
        english = set(re.findall(r"[^\W\d_]+", " ".join(WORDS["en"].values()).lower()))
        found = set(re.findall(r"[^\W\d_]{2,}", words.lower())) & english
        assert found <= SHARED.get(language, set()), (name, found)


def check_choice(name: str, task: Any, doc: dict[str, Any], base: str, chat: str) -> None:
    """Check the options, and how context and answer join."""
    language = doc["language"]
    arabic = OFFICIAL_ARABIC_LETTERS if is_official(name) else ARABIC_LETTERS
    options = doc.get("choices") or [
        WORDS[language][key] for key in ("entailment", "neutral", "contradiction")
    ]
    own = language == "ar" and task.config.metadata["family"] not in PRINTED
    expected = (arabic if own else LETTERS)[: len(options)]
    block = "\n".join(f"{letter}. {option}" for letter, option in zip(expected, options, strict=True))
    assert base.count(block) == 1, (name, base)
    assert task.doc_to_choice(doc) == list(expected)
    assert 0 <= task.doc_to_target(doc) < len(options)
    requests = task.construct_requests(doc, base, metadata=(name, 0, 1))
    continuation = requests[0].arguments[1]
    no_space = language in NO_SPACE and not is_official(name)
    assert continuation == ("" if no_space else " ") + expected[0], (name, continuation)
    assert not base.endswith((" ", "\n"))
    in_chat = task.construct_requests(doc, chat, metadata=(name, 0, 1), apply_chat_template=True)
    assert [request.arguments[1] for request in in_chat] == list(expected)


def lint(tasks: dict[str, Any], every: int = 1) -> int:
    """Check every prompt (or one in `every`) of the tasks; return how many."""
    model, count = Oracle(lambda doc: ""), 0
    for name, task in tasks.items():
        docs = task.eval_docs
        seen: set[str] = set()
        for doc in docs.select(range(0, len(docs), every)):
            count += 1
            base = task.fewshot_context(doc, 0)
            chat = task.fewshot_context(
                doc,
                0,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
                chat_template=model.apply_chat_template,
            )
            assert chat == model.apply_chat_template([{"role": "user", "content": base}]), name
            if task.OUTPUT_TYPE == "multiple_choice":
                check_choice(name, task, doc, base, chat)
            if "mtbench" in name or "lcb" in name:
                assert base == (doc["turns"][0] if "mtbench" in name else doc["question"])
                continue
            text = frame(base, doc)
            if text not in seen:  # few frames differ, so few are looked at closely
                seen.add(text)
                letters = (*LETTERS, *ARABIC_LETTERS, *OFFICIAL_ARABIC_LETTERS)
                check_frame(name, text, doc["language"], letters)
    return count


@pytest.mark.parametrize("group", [group for group in GROUPS if "turn2" not in group])
def test_lint_of_every_task(made_up: Path, group: str) -> None:
    """Every task and language, on made-up items."""
    tasks = tasks_of(group, made_up)
    assert lint(tasks) >= 3 * len(tasks) > 0


PUBLISHED_GROUPS = [
    "lens_xnli", "lens_mgsm", "lens_mgsm_8shot", "lens_xcopa", "lens_xwinograd", "lens_mmlu",
    "lens_xcopa_official",
    "lens_mtbench",
]  # fmt: skip


@pytest.mark.parametrize("group", PUBLISHED_GROUPS)
def test_lint_of_published_items(shared: Path, monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    """Real items: all of them, but of XNLI's 5,010 a language every tenth."""
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    tasks = load_tasks(group)["tasks"]
    assert lint(tasks, every=10 if group == "lens_xnli" else 1) >= 80 * len(tasks) * (
        group != "lens_xwinograd"
    )


def test_the_lint_finds_faults() -> None:
    """The control: each fault that the lint is there for is found."""
    faulty = {
        "zh": ["请回答 {letters}", "请  回答", "请回答 ", "Answer：", "ответ"],
        "sw": ["Jibu the letter", "Jibu \nkwa"],
        "ar": ["أجب with"],
    }
    for language, texts in faulty.items():
        for text in texts:
            with pytest.raises(AssertionError):
                check_frame("lens_x", text, language, LETTERS)


@pytest.mark.parametrize("chat", [False, True])
def test_examples_join_without_stray_spaces(made_up: Path, chat: bool) -> None:
    model = Oracle(lambda doc: "")
    for group in ("lens_xnli", "lens_xcopa", "lens_mgsm_8shot", "lens_xwinograd"):
        for name, task in tasks_of(group, made_up).items():
            task.set_fewshot_seed(1234)
            doc = task.eval_docs[0]
            text = task.fewshot_context(
                doc,
                2,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
                chat_template=model.apply_chat_template,
            )
            assert "  " not in text, name
            assert " \n" not in text, name
            assert text.count(task.doc_to_text(doc)) == 1, name  # never the item itself as its own example
            if chat:
                assert text.count("<|assistant|>") == 3, name
            elif doc["language"] in ("zh", "ja"):
                assert "： " not in text, name


def test_eight_exemplars_in_published_order(made_up: Path) -> None:
    task = tasks_of("lens_mgsm_8shot", made_up)["lens_mgsm_8shot_sw"]
    assert task.config.num_fewshot == 8
    text = task.fewshot_context(task.eval_docs[0], 8)
    found = re.findall(r"Jibu ni (\d+)\.", text)
    assert found == [str(number) for number in range(1, 9)]


def test_official_settings_are_kept_apart(made_up: Path) -> None:
    own = tasks_of("lens_mmlu", made_up)["lens_mmlu_ar"]
    official = load_tasks("lens_mmlu_official")["tasks"]["lens_mmlu_official_ar"]
    doc = own.eval_docs[0]
    assert own.doc_to_choice(doc)[2] == "ج"
    assert official.doc_to_choice(doc)[2] == "ك"
    assert "in Arabic" in official.doc_to_text(doc)
    model = Oracle(lambda doc: "")
    official.set_config("num_fewshot", 0)
    official.build_all_requests(limit=1, apply_chat_template=True, chat_template=model.apply_chat_template)
    assert official.instances[0].arguments[0].startswith("<|system|>\n<|end|>\n<|user|>\n")
