"""The facts and wordings of the simulated world, and the items made from them.

Everything is written by hand in four languages. Wordings are chosen so that nothing in them has to
agree with what is filled in: Swahili adjectives and verbs agree with a fixed noun of the wording
(`rangi`, `nchi`, `mji`), Arabic ones likewise (`عاصمة`, `دولة`, `لغة`), and Arabic numbers are the
counting ones. Each reply opens with a short word and ends with the value, and is one line.

`python -m lens_eval.mini.world FOLDER` writes the JSONL files that the package carries.
"""

from __future__ import annotations

import json
import random
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from lens_eval.mini import SPLITS
from lens_eval.mini.wordings import (
    CENTRAL,
    COLOURS,
    CONTINENTS,
    COUNTRIES,
    DAYS,
    KINDS,
    LANGUAGES,
    MONTHS,
    NUMBERS,
    OPPOSITES,
    THINGS,
    TONGUES,
    names_of,
    rows_of,
    table_of,
)

OPENING = {"en": "OK. ", "zh": "嗯。", "sw": "Sawa. ", "ar": "حسنًا. "}
SHARES = {"train": 0.56, "dev": 0.16, "test": 0.28}
N_CHOICES = 4


@dataclass(frozen=True)
class Fact:
    """One thing that the world knows; `slots` fill the gaps of its kind's wordings."""

    kind: str
    key: str
    slots: dict[str, dict[str, str]]
    value: dict[str, str]


@dataclass(frozen=True)
class Item:
    """One question in every language, with its reply and, outside train, replies to choose from."""

    id: str
    kind: str
    prompt: dict[str, str]
    response: dict[str, str]
    value: dict[str, str]
    choices: dict[str, list[str]] = field(default_factory=dict)
    answer: int = -1

    def as_dict(self) -> dict[str, object]:
        """The JSON object of the item's line."""
        row: dict[str, object] = {
            "id": self.id,
            "kind": self.kind,
            "prompt": self.prompt,
            "response": self.response,
            "value": self.value,
        }
        if self.choices:
            row |= {"choices": self.choices, "answer": self.answer}
        return row


def _fact(kind: str, x: dict[str, str], value: dict[str, str]) -> Fact:
    slots = {language: {"x": x[language]} for language in LANGUAGES}
    return Fact(kind, f"{kind}-{x[CENTRAL].replace(' ', '_').lower()}", slots, value)


def _country_facts() -> list[Fact]:
    continents, languages = table_of(CONTINENTS), table_of(TONGUES)
    facts = []
    for name, capital, continent, language in rows_of(COUNTRIES):
        country = names_of(name)
        facts.append(_fact("capital", country, names_of(capital)))
        if continent != "-":
            facts.append(_fact("continent", country, continents[continent]))
        if language != "-":
            facts.append(_fact("language", country, languages[language]))
    return facts


def _sum_facts() -> list[Fact]:
    numbers = list(table_of(NUMBERS).values())
    facts = []
    for a in range(1, 10):
        for b in range(a + 1, 10):
            x, y, value = numbers[a - 1], numbers[b - 1], numbers[a + b - 1]
            slots = {language: {"a": x[language], "b": y[language]} for language in LANGUAGES}
            # The Arabic dual is the one number that shows case: "sum of" takes the genitive.
            genitive = {"اثنان": "اثنين"}
            slots["ar"] |= {f"g{s}": genitive.get(slots["ar"][s], slots["ar"][s]) for s in "ab"}
            facts.append(Fact("sum", f"sum-{a}-{b}", slots, value))
    return facts


def _cycle_facts(kind: str, block: str) -> list[Fact]:
    names = list(table_of(block).values())
    return [_fact(kind, name, names[(i + 1) % len(names)]) for i, name in enumerate(names)]


@lru_cache
def facts() -> tuple[Fact, ...]:
    """Everything the world knows, in a fixed order."""
    colours = table_of(COLOURS)
    return (
        *_country_facts(),
        *(_fact("colour", names_of(x), colours[colour]) for x, colour in rows_of(THINGS)),
        *(_fact("opposite", names_of(x), names_of(value)) for x, value in rows_of(OPPOSITES)),
        *_sum_facts(),
        *_cycle_facts("day", DAYS),
        *_cycle_facts("month", MONTHS),
    )


@lru_cache
def values(kind: str, language: str) -> tuple[str, ...]:
    """Every value that answers some question of `kind`, in `language`, in a fixed order."""
    return tuple(dict.fromkeys(fact.value[language] for fact in facts() if fact.kind == kind))


def last_value(text: str, known: tuple[str, ...]) -> str | None:
    """The last of the `known` values in `text`, or None.

    The longest value wins where several begin together ("kumi na saba", not "kumi"); Latin and
    Arabic values must stand as whole words, in any case.
    """
    longest_first = sorted(known, key=len, reverse=True)
    pattern = "|".join(
        re.escape(v) if re.match(r"[\u4e00-\u9fff]", v) else rf"(?<!\w){re.escape(v)}(?!\w)"
        for v in longest_first
    )
    found = re.findall(pattern, text, flags=re.IGNORECASE)
    if not found:
        return None
    return next(v for v in known if v.casefold() == found[-1].casefold())


def statement(fact: Fact, language: str, value: str | None = None) -> str:
    """The sentence that states `fact`, or the wrong one that puts `value` in its place."""
    gaps = fact.slots[language] | {"v": fact.value[language] if value is None else value}
    return KINDS[fact.kind].answer[language].format(**gaps)


def reply(fact: Fact, language: str, value: str | None = None) -> str:
    """The reply to a question about `fact`: opening word and statement."""
    return OPENING[language] + statement(fact, language, value)


def question(fact: Fact, language: str, wording: int) -> str:
    """Question number `wording` (0, 1, 2) about `fact`."""
    return KINDS[fact.kind].questions[language][wording].format(**fact.slots[language])


def split_facts() -> dict[str, list[Fact]]:
    """Facts of each split; every kind is in every split, no fact in two."""
    splits: dict[str, list[Fact]] = {split: [] for split in SPLITS}
    for kind in KINDS:
        of_kind = [fact for fact in facts() if fact.kind == kind]
        random.Random(f"split {kind}").shuffle(of_kind)
        n_dev = max(1, round(SHARES["dev"] * len(of_kind)))
        n_test = max(2, round(SHARES["test"] * len(of_kind)))
        splits["dev"] += of_kind[:n_dev]
        splits["test"] += of_kind[n_dev : n_dev + n_test]
        splits["train"] += of_kind[n_dev + n_test :]
    return splits


def _item(fact: Fact, wording: int, with_choices: bool) -> Item:
    draw = random.Random(f"choices {fact.key} {wording}")
    item = Item(
        id=f"{fact.key}-{wording}",
        kind=fact.kind,
        prompt={language: question(fact, language, wording) for language in LANGUAGES},
        response={language: reply(fact, language) for language in LANGUAGES},
        value=dict(fact.value),
    )
    if not with_choices:
        return item
    known = [values(fact.kind, language) for language in LANGUAGES]
    right = known[0].index(fact.value[CENTRAL])
    order = draw.sample([i for i in range(len(known[0])) if i != right], N_CHOICES - 1)
    answer = draw.randrange(N_CHOICES)
    order.insert(answer, right)
    choices = {
        language: [reply(fact, language, known[i][j]) for j in order] for i, language in enumerate(LANGUAGES)
    }
    return Item(item.id, item.kind, item.prompt, item.response, item.value, choices, answer)


def items(split: str) -> list[Item]:
    """The items of `split`: every fact of it in three wordings, in a fixed mixed order."""
    made = [
        _item(fact, wording, with_choices=split != "train")
        for fact in split_facts()[split]
        for wording in range(len(KINDS[fact.kind].questions[CENTRAL]))
    ]
    random.Random(f"order {split}").shuffle(made)
    return made


def to_jsonl(rows: list[Item]) -> str:
    """The text of an items file."""
    return "".join(json.dumps(row.as_dict(), ensure_ascii=False) + "\n" for row in rows)


def write_items(folder: Path) -> None:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        (folder / f"{split}.jsonl").write_text(to_jsonl(items(split)), encoding="utf-8")


if __name__ == "__main__":
    write_items(Path(sys.argv[1]))
