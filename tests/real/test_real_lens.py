"""Lens repairs a real model that answers most languages in English, with the default settings.

Questions that no training has seen go through `lens eval` before and after; replies are judged by language,
and one is usable if it is also no loop, no echo and not empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import items
import pytest
from commands import Lens, means, replies, samples

from lens_eval.language.off_target import judge_texts
from lens_eval.language.reply_form import form_of

pytestmark = pytest.mark.real

REPAIRED = ("zh", "ja", "ko", "ar")
TASK = """
task: open_{language}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: ""
process_results: !function lens_eval.tasks.scoring.open_answer
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 48}}
metric_list:
  - {{metric: on_target, aggregation: mean, higher_is_better: true}}
  - {{metric: off_target, aggregation: mean, higher_is_better: false}}
  - {{metric: undetermined, aggregation: mean, higher_is_better: false}}
  - metric: answered_in
    aggregation: !function lens_eval.tasks.scoring.most_common
    higher_is_better: true
metadata: {{version: 1.0, family: open, language: {language}, central: en}}
"""


@dataclass(frozen=True)
class Replies:
    """Replies of one model to the held-back prompts, by language."""

    prompts: Mapping[str, Sequence[str]]
    texts: Mapping[str, Sequence[str]]

    def outcomes(self, language: str) -> list[str]:
        """Verdict on each reply: `on_target`, `central`, `other` or `undetermined`."""
        return [each.outcome for each in judge_texts(self.texts[language], language, self.prompts[language])]

    def off_target(self, language: str) -> int:
        """Replies in another language than the one asked for."""
        return sum(outcome in ("central", "other") for outcome in self.outcomes(language))

    def usable(self, language: str) -> int:
        """Replies in the language asked for that are neither empty nor a loop nor an echo."""
        forms = map(form_of, self.texts[language], self.prompts[language])
        outcomes = self.outcomes(language)
        return sum(how == "on_target" and not form.broken for how, form in zip(outcomes, forms, strict=True))


def assert_repaired(before: Replies, after: Replies) -> None:
    """Off-target replies halved in each language, usable ones doubled over all."""
    off = {code: (before.off_target(code), after.off_target(code)) for code in REPAIRED}
    usable = {code: (before.usable(code), after.usable(code)) for code in REPAIRED}
    assert all(2 * now <= then and now < then for then, now in off.values()), off
    assert sum(now for _, now in usable.values()) >= 2 * sum(then for then, _ in usable.values()), usable


def assert_english_kept(before: Replies, after: Replies) -> None:
    """English is answered in English, and as a rule from the first word on as before."""
    assert set(after.outcomes("en")) == {"on_target"}
    pairs = list(zip(before.texts["en"], after.texts["en"], strict=True))
    assert sum(old.split()[:1] == new.split()[:1] for old, new in pairs) >= 18, pairs


@pytest.fixture(scope="module")
def tasks(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of open questions for each language, as a user would write it."""
    folder = tmp_path_factory.mktemp("tasks")
    for code in ("en", *REPAIRED):
        rows = [{"prompt": text, "language": code} for text in items.held_back(shared, code)]
        file = items.write_lines(folder / f"{code}.jsonl", rows)
        (folder / f"open_{code}.yaml").write_text(TASK.format(language=code, file=file), encoding="utf-8")
    return folder


def ask(lens: Lens, model: Path, tasks: Path, run: Path) -> Replies:
    """Answers of a model to all questions, through lm_eval's hf backend."""
    named = ",".join(f"open_{code}" for code in ("en", *REPAIRED))
    given = ["--tasks", named, "--include-path", tasks, "--model-args", "dtype=float32", "--batch-size", 20]
    lens("eval", "--model", model, *given, "--output", run, HF_DATASETS_CACHE=str(tasks / "cache"))
    found = {name.removeprefix("open_"): rows for name, rows in samples(run).items()}
    return Replies(
        {code: [row["doc"]["prompt"] for row in rows] for code, rows in found.items()},
        {code: replies(rows) for code, rows in found.items()},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trained model and results go."""
    return tmp_path_factory.mktemp("lens")


@pytest.fixture(scope="module")
def before(lens: Lens, english: Path, tasks: Path, place: Path) -> Replies:
    """The untrained model's replies."""
    return ask(lens, english, tasks, place / "before")


@pytest.fixture(scope="module")
def after(lens: Lens, english: Path, tasks: Path, shared: Path, place: Path) -> Replies:
    """Those after Lens."""
    data = items.parallel(shared, place / "train.jsonl", items.TRAINED)
    given = ["--model", english, "--data", data, "--languages", ",".join(("en", *REPAIRED))]
    settings = [part for each in SETTINGS for part in ("--set", each)]
    lens("train", *given, *settings, "--output", place / "trained")
    return ask(lens, place / "trained", tasks, place / "after")


SETTINGS: tuple[str, ...] = ()


def test_lens_repairs_a_model_that_answers_in_english(before: Replies, after: Replies) -> None:
    assert_repaired(before, after)
    assert_english_kept(before, after)
    # Control: the untrained model is not the one that passes.
    with pytest.raises(AssertionError):
        assert_repaired(before, before)


def test_the_comparison_says_so(
    before: Replies, after: Replies, lens: Lens, place: Path, tmp_path: Path
) -> None:
    """`lens compare` and the page count the same replies, from the saved samples alone."""
    runs = [f"{name}={place / name}" for name in ("before", "after")]
    lens("compare", *runs, "--reference", "before", "--output", tmp_path)
    shares = means(tmp_path, "off_target")
    for code in REPAIRED:
        assert shares["before", code] == pytest.approx(before.off_target(code) / items.HELD_BACK)
        assert shares["after", code] == pytest.approx(after.off_target(code) / items.HELD_BACK)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "open_zh" in page
