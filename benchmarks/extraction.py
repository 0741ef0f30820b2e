"""Numbers read out of the same hand-made responses: by this project, and by lm-eval's `mgsm_native_cot_*`.

lm-eval's side is its own code: the filters of its task files, applied by its filter classes, scored by its
exact match with the settings of those tasks. Writes results/bench/extraction.{md,json}; the table in
docs/tasks.md is the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import write_table
from lens_eval.language.languages import ASCII_DIGITS, LANGUAGES
from lens_eval.tasks.answers import DECIMAL_COMMA
from lens_eval.tasks.families import LANGUAGES as FAMILY_LANGUAGES
from lens_eval.tasks.scoring import number
from lens_eval.tasks.words import WORDS

# A worked step, how a mistake is taken back, and "18 kilograms" in each language.
STEPS = {
    "en": "First we add up all the eggs, and then we multiply them by the price of one.",
    "zh": "首先把所有的鸡蛋加起来，然后乘以每个鸡蛋的价格。",
    "ja": "まず卵の数をすべて足して、それから一つの値段を掛けます。",
    "bn": "প্রথমে সব ডিম যোগ করি, তারপর প্রতিটি ডিমের দাম দিয়ে গুণ করি।",
    "sw": "Kwanza tunajumlisha mayai yote, kisha tunazidisha kwa bei ya yai moja.",
    "es": "Primero sumamos todos los huevos y después los multiplicamos por el precio de uno.",
    "fr": "D'abord on additionne tous les œufs, puis on multiplie par le prix d'un seul.",
    "de": "Zuerst zählen wir alle Eier zusammen, dann multiplizieren wir mit dem Preis von einem.",
    "ru": "Сначала сложим все яйца, а затем умножим их количество на цену одного яйца.",
    "th": "ก่อนอื่นเรานำจำนวนไข่ทั้งหมดมารวมกัน จากนั้นจึงคูณด้วยราคาของไข่แต่ละฟอง",
    "te": "ముందుగా గుడ్లన్నింటినీ కలుపుతాము, ఆ తర్వాత ఒక్కో గుడ్డు ధరతో గుణిస్తాము.",
}
CORRECTIONS = {
    "en": "Wait, that is wrong: 3 eggs are eaten.",
    "zh": "等等，这里算错了：吃掉了 3 个。",
    "ja": "すみません、間違えました。3個は食べてしまいます。",
    "bn": "দুঃখিত, এটি ভুল: 3টি ডিম খাওয়া হয়েছে।",
    "sw": "Samahani, hilo si sahihi: mayai 3 yameliwa.",
    "es": "Espera, eso está mal: se comen 3 huevos.",
    "fr": "Attendez, c'est faux : on mange 3 œufs.",
    "de": "Moment, das stimmt nicht: 3 Eier werden gegessen.",
    "ru": "Подождите, это неверно: 3 яйца съедают.",
    "th": "ขอโทษ คำนวณผิด ไข่ 3 ฟองถูกกินไปแล้ว",
    "te": "క్షమించండి, అది తప్పు: 3 గుడ్లు తినేశారు.",
}
KILOGRAMS = {
    "en": "{} kilograms",
    "zh": "{}公斤",
    "ja": "{}キログラム",
    "bn": "{} কিলোগ্রাম",
    "sw": "kilo {}",
    "es": "{} kilos",
    "fr": "{} kilos",
    "de": "{} Kilogramm",
    "ru": "{} килограммов",
    "th": "{} กิโลกรัม",
    "te": "{} కిలోగ్రాములు",
}
FULL_WIDTH = "０１２３４５６７８９"


@dataclass(frozen=True)
class Response:
    """A response, the reference it is scored against, and whether it should be counted right."""

    language: str
    kind: str
    text: str
    gold: int
    right: bool = True


def responses(language: str) -> Iterator[Response]:
    """Yield the hand-made responses of one language."""
    own = {"zh": FULL_WIDTH, "ja": FULL_WIDTH}.get(language, LANGUAGES[language].digits)
    comma = language in DECIMAL_COMMA
    thousand = {"fr": "1\u202f234", "ru": "1\u00a0234"}.get(language, "1.234" if comma else "1,234")

    steps = f"{STEPS[language]} 9 + 7 = 16"

    def made(kind: str, answer: str, gold: int = 18, right: bool = True) -> Response:
        return Response(language, kind, f"{steps}\n{_final(language, answer)}", gold, right)

    yield made("plain", "18")
    if own != ASCII_DIGITS:
        text = made("", "18").text.translate(str.maketrans(ASCII_DIGITS, own))
        yield Response(language, "own digits", text, 18)
    yield made("thousands", thousand, 1234)
    yield made("decimals", "18,00" if comma else "18.00")
    yield made("negative", "−5", -5)
    yield made("sign lost", "5", -5, right=False)
    yield made("currency", "$18")
    yield made("unit", KILOGRAMS[language].format(18))
    yield made("fraction", r"\(\frac{36}{2}\)")
    yield Response(language, "boxed", f"{steps}\n\\[ \\boxed{{18}} \\]", 18)
    yield made("bold", "**18**")
    taken_back = f"{_final(language, '24')}\n{CORRECTIONS[language]}\n{_final(language, '18')}"
    yield Response(language, "corrected", f"{steps}\n{taken_back}", 18)
    yield Response(language, "in English", f"{STEPS['en']} 9 + 7 = 16\n{_final('en', '18')}", 18)


def _final(language: str, answer: str) -> str:
    return WORDS[language]["final"].format(number=answer)


def ours(response: Response) -> bool:
    """Whether this project scores a response as it should be."""
    doc = {"language": response.language, "prompt": "", "answer_number": response.gold}
    return bool(number(doc, [response.text])["acc"]) == response.right


def theirs(response: Response) -> dict[str, bool]:
    """Whether lm-eval does, for each of its filters: strict-match, flexible-extract."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_fn
    from lm_eval.filters import build_filter_ensemble

    task, metric = _task(response.language)
    found = {}
    for item in task["filter_list"]:
        settings = [{k: v for k, v in step.items() if k != "function"} for step in item["filter"]]
        names = [step["function"] for step in item["filter"]]
        steps = [(name, own or None) for name, own in zip(names, settings, strict=True)]
        instance = Instance("generate_until", {}, ("", {}), 0, resps=[response.text])
        build_filter_ensemble(item["name"], steps).apply([instance])
        score = exact_match_fn(
            predictions=[instance.filtered_resps[item["name"]]], references=[str(response.gold)], **metric
        )
        found[item["name"]] = bool(score["exact_match"]) == response.right
    return found


@lru_cache
def _task(language: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return lm-eval's task file of a language, and the settings of its metric."""
    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks" / "mgsm" / "native_cot"
    task = yaml.safe_load((folder / f"mgsm_native_cot_{language}.yaml").read_text(encoding="utf-8"))
    shared = yaml.safe_load((folder / task["include"]).read_text(encoding="utf-8"))
    settings = {name: shared["metric_list"][0][name] for name in ("ignore_case", "ignore_punctuation")}
    return task, settings


def table() -> list[dict[str, str]]:
    """Return a row per language: how many responses each reader scores as it should, and what it misses."""
    rows = []
    for language in FAMILY_LANGUAGES["mgsm"]:
        made = list(responses(language))
        scored = {response.kind: {"ours": ours(response), **theirs(response)} for response in made}
        row = {"language": language, "responses": str(len(made))}
        for reader in ("ours", "strict-match", "flexible-extract"):
            missed = [kind for kind, by in scored.items() if not by[reader]]
            row[reader] = f"{len(made) - len(missed)}" + (f" (not: {', '.join(missed)})" if missed else "")
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table as it stands in docs/tasks.md."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(row.values()) + " |" for row in rows]) + "\n"


if __name__ == "__main__":
    notes = [
        "Each cell: how many responses are scored as they should be, and which kinds are not.",
        "“sign lost” is a wrong answer (5 for −5): scored as it should be where it counts as wrong.",
        "strict-match and flexible-extract are the two filters of lm-eval's mgsm_native_cot tasks.",
    ]
    write_table("extraction", "Reading the answer out of a response", table(), notes)
