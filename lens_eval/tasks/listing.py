"""What can be asked, in which languages, and where its items are or would come from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lens_eval.tasks.benchmark_places import ALL_PLACES
from lens_eval.tasks.families import HUB, LANGUAGES
from lens_eval.tasks.finding import DATA_DIR_VARIABLE, MissingItems
from lens_eval.tasks.generate import FAMILIES
from lens_eval.tasks.items import load_split
from lens_eval.tasks.words import FAMILY_WORDS, REVIEWS


@dataclass(frozen=True)
class Listed:
    """One task; `items` is None where they are not on this machine, `review` who read its words."""

    task: str
    language: str
    items: int | None
    review: str
    source: str


def listed(languages: Collection[str] = ()) -> Iterator[Listed]:
    """Yield every task written by `generate` in these languages (all if empty), families in their order."""
    for family in FAMILIES:
        for end, language, variant in family.tasks():
            if languages and language not in languages:
                continue
            items = family.items if language in LANGUAGES[family.items] else "global_mgsm"
            count, source = _items(items, variant or language)
            no_words = family.official or not FAMILY_WORDS[items]
            review = "none" if no_words else REVIEWS.get(language, "missing")
            yield Listed(f"lens_{family.name}_{end}", language, count, review, source)


def _items(family: str, language: str) -> tuple[int | None, str]:
    try:
        split = load_split(family, language, "test")
    except MissingItems:
        places = ALL_PLACES[family](language, "test")
        hub = next((str(HUB[place.folder]) for place in places if place.hub), None)
        return None, hub or f"{DATA_DIR_VARIABLE}: {places[0].folder}/{places[0].patterns[0]}"
    return len(split.rows), split.source
