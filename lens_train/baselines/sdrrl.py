"""Self-distillation from the resource-rich language (SDRRL, arXiv 2402.12204).

The model answers the central prompts itself, and its answers are translated. It is trained on these answers
in all four directions (asked and answered in the central or in the other language), on code-switched prompts,
and on parallel text. The prompts' translations come from the data. docs/baselines.md says what was taken from
the paper and what was not.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lens_eval.base.errors import UserError
from lens_eval.base.files import append_text, write_text
from lens_eval.base.progress import progress
from lens_eval.base.reading import parse_json, read_text, shaped
from lens_eval.language.languages import get_language
from lens_train import generation, methods
from lens_train.baselines import tuning
from lens_train.baselines.pairs import Example, Item
from lens_train.baselines.qalign import translation_request
from lens_train.baselines.training_log import Stage
from lens_train.baselines.translate import Table, Translator, make_translator, parallel_texts
from lens_train.baselines.tuning import TuningSettings
from lens_train.data import read_rows
from lens_train.job import Job

ANSWERS = Path("training") / "answers.jsonl"


@dataclass(frozen=True)
class SdrrlSettings(TuningSettings):
    """Settings of self-distillation."""

    translator: str = "data"
    """Translator of the model's own answers. `data`: look answers up in the pairs, and leave out those not
    found; a `.jsonl` file of parallel texts, used in the same way; hub id of a seq2seq model; `none`."""
    parts: tuple[Literal["directions", "switched", "parallel"], ...] = ("directions", "switched", "parallel")
    """Parts: own answers in four directions; own answers to code-switched prompts; translation of text."""
    switch_share: float = 0.5
    """Share of a prompt's words known to the dictionary that are replaced."""
    dictionary: str | None = None
    """`.jsonl` file of words by language; None: found in the prompts by co-occurrence."""
    parallel_text: str | None = None
    """`.jsonl` file of parallel texts to translate, as many as there are items; None: the prompts."""
    answer_tokens: int = 256
    """Most tokens of an own answer; an answer that has not ended by then is left out."""
    answer_batch: int = 16
    """Prompts answered at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        tuning.require_range("switch_share", self.switch_share, 0, 1)
        for name in ("answer_tokens", "answer_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"setting {name} is {getattr(self, name)}; it must be at least 1")
        if not self.parts:
            raise UserError("setting parts is empty: there is nothing to train on")


def train(job: Job) -> None:
    """Generate, translate, fine-tune; write a checkpoint to `job.output`, own answers to `training/`."""
    settings = methods.read_settings(SdrrlSettings, job.settings, job.method)
    data, items = tuning.load_budget(job, settings)
    if not data.parallel:
        raise UserError(f"{data.path}: sdrrl needs every prompt in every language")
    others = [language for language in job.languages if language != job.central]
    translate = make_translator(settings.translator, items, job.central, others, job.device)
    words = read_words(settings.dictionary, items, job.central, others)
    texts = read_texts(settings.parallel_text, items, job.languages)
    run = tuning.Run(job, settings)
    methods.begin(job)
    with first_process_first(job.device):
        answers = own_answers(run, items, job.output / ANSWERS, settings)
    made = sdrrl_examples(items, answers, translate, words, texts, job, settings.parts, settings.switch_share)
    kept, counts = run.screen(made)
    run.stage(Stage("answers", kept))
    kinds = dict(sorted(Counter(example.kind for example in kept).items()))
    spoken = sum(len(run.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answers.values())
    record = {"own_answers": len(answers), "own_answer_tokens": spoken, "kinds": kinds, **counts}
    run.finish(tuning.data_record(data, items, record))


def first_process_first(device: str) -> AbstractContextManager[Any]:
    """With several processes, the first one runs the block alone; the others run it afterwards."""
    if methods.processes() == 1:
        return nullcontext()
    from accelerate import PartialState

    from lens_train.devices import resolve_device

    return PartialState(cpu=resolve_device(device).type == "cpu").main_process_first()


def own_answers(
    run: tuning.Run, items: Sequence[Item], file: Path, settings: SdrrlSettings
) -> dict[str, str]:
    """The model's own greedy answers to the central prompts, item -> text; only answers that ended.

    They are kept in `file`, so that an interrupted run need not generate them again.
    """
    text = read_text(file) if file.exists() else ""
    lines = text[: text.rfind("\n") + 1].split("\n")[:-1]  # what a kill cut short is asked for again
    if not text.endswith("\n") and text:
        write_text(file, "".join(line + "\n" for line in lines))
    with shaped(file, "file of own answers"):
        done: dict[str, str | None] = dict(parse_json(line, str(file)) for line in lines)
    todo = [item for item in items if item.id not in done]
    starts = range(0, len(todo), settings.answer_batch)
    for start in progress(starts, label="own answers"):
        batch = todo[start : start + settings.answer_batch]
        texts = generate(run, [item.prompt[run.job.central] for item in batch], settings.answer_tokens)
        new = {item.id: text for item, text in zip(batch, texts, strict=True)}
        done |= new
        append_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new.items()))
    found = {key: text for key, text in done.items() if text}
    if not found:
        raise UserError(f"{run.job.model} ended none of its answers within {settings.answer_tokens} tokens")
    return found


def generate(run: tuning.Run, prompts: Sequence[str], most: int) -> list[str | None]:
    """Greedy replies with the chat template; None for a reply that does not end within `most` tokens."""
    tokenizer, model = run.tokenizer, run.model.eval()
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    rendered = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True)["input_ids"]
    budget = len(prompts) * (max(map(len, rendered)) + most)  # one batch, if its logits allow
    replies = generation.generate(model, tokenizer, rendered, most, budget, label=None)
    texts = [tokenizer.decode(reply.tokens, skip_special_tokens=True).strip() for reply in replies]
    return [(text or None) if reply.ended else None for reply, text in zip(replies, texts, strict=True)]


def sdrrl_examples(
    items: Sequence[Item],
    answers: Mapping[str, str],
    translate: Translator,
    words: Mapping[str, Mapping[str, str]],
    texts: Sequence[Mapping[str, str]],
    job: Job,
    parts: Sequence[str],
    share: float,
) -> list[Example]:
    """All training examples, item by item; an item without an own answer gives only parallel text."""
    others = [language for language in job.languages if language != job.central]
    answered = [item for item in items if item.id in answers]
    translated: dict[str, dict[str, str | None]] = {}
    for language in others:
        given = translate([answers[item.id] for item in answered], job.central, language)
        translated[language] = {item.id: text for item, text in zip(answered, given, strict=True)}
    made: list[Example] = []
    for item, text in zip(items, texts, strict=True):
        own = answers.get(item.id)
        if own and "directions" in parts:
            made.append(Example(item.id, job.central, item.prompt[job.central], own))
        for language in others:
            answer = translated[language].get(item.id)
            if own and "directions" in parts:
                made += directions(item, own, answer, job.central, language)
            if answer and "switched" in parts:
                made += switched(item, answer, words[language], language, share, job.seed)
            if "parallel" in parts:
                made += both_ways(item.id, text, job.central, language)
    return made


def directions(item: Item, own: str, answer: str | None, central: str, language: str) -> list[Example]:
    """The three directions besides central to central; those into `language` only if its answer is known.

    A prompt in another language than its answer names the wanted language. Otherwise one prompt would have
    two right answers.
    """
    into_central = f"{item.prompt[language]}\n\n{wish(central)}"
    made = [Example(item.id, central, into_central, own, "into_central")]
    if answer:
        from_central = f"{item.prompt[central]}\n\n{wish(language)}"
        made.append(Example(item.id, language, from_central, answer, "from_central"))
        made.append(Example(item.id, language, item.prompt[language], answer))
    return made


def wish(language: str) -> str:
    """Ask for an answer in a language, in English."""
    return f"Answer in {get_language(language).name}."


def switched(
    item: Item, answer: str, words: Mapping[str, str], language: str, share: float, seed: int
) -> list[Example]:
    """The prompt in `language` with some words in the central language; empty if no word is known."""
    prompt = item.prompt[language]
    known = [word for word in words if word in prompt]
    # Longest first, so that a word is not replaced inside a longer one.
    known = [word for word in known if not any(word != other and word in other for other in known)]
    chance = random.Random(f"{seed}.{item.id}.{language}")
    chosen = chance.sample(sorted(known), max(1, round(share * len(known)))) if known else []
    for word in chosen:
        prompt = prompt.replace(word, words[word])
    return [Example(item.id, language, prompt, answer, "switched")] if chosen else []


def both_ways(item: str, text: Mapping[str, str], central: str, language: str) -> list[Example]:
    """Examples that translate a parallel text from and into the central language."""
    if language not in text or central not in text:
        return []
    return [
        Example(item, target, translation_request(text[source], source, target), text[target], "translate")
        for source, target in ((language, central), (central, language))
    ]


def read_texts(file: str | None, items: Sequence[Item], languages: Sequence[str]) -> list[Mapping[str, str]]:
    """Parallel texts to translate, one per item: the prompts, or those of `file`."""
    if file is None:
        return [item.prompt for item in items]
    rows = [texts for row in read_rows(Path(file)) for texts in parallel_texts(row, languages)]
    found = [texts for texts in rows if len(texts) > 1][: len(items)]
    if len(found) < len(items):
        raise UserError(f"{file}: {len(found)} parallel texts, but {len(items)} are needed, one per item")
    return list(found)


def read_words(
    file: str | None, items: Sequence[Item], central: str, others: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Per language a dictionary into the central one."""
    if file is None:
        return {language: find_words(items, central, language) for language in others}
    table = Table.read(Path(file), (central, *others)).texts
    return {
        language: {
            word: to
            for (source, target, word), to in table.items()
            if (source, target) == (language, central)
        }
        for language in others
    }


def find_words(items: Sequence[Item], central: str, language: str, least: float = 0.8) -> dict[str, str]:
    """Dictionary from words of `language`, by co-occurrence in parallel prompts.

    A pair is taken if 2 |both| / (|one| + |other|) (Dice) is at least `least` and both words occur at least
    twice. In scripts without spaces, a word is a substring of 2 to 6 characters.
    """
    counts: list[Counter[str]] = [Counter(), Counter()]
    together: Counter[tuple[str, str]] = Counter()
    for item in items:
        one, other = _units(item.prompt[language]), _units(item.prompt[central])
        counts[0].update(one)
        counts[1].update(other)
        together.update((a, b) for a in one for b in other)
    best: dict[str, tuple[float, int, str, str]] = {}
    for (a, b), both in together.items():
        dice = 2 * both / (counts[0][a] + counts[1][b])
        if both >= 2 and dice >= least:
            best[b] = max(best.get(b, (0.0, 0, "", "")), (dice, len(a), a, b))
    return {a: b for _, _, a, b in sorted(best.values(), key=lambda entry: entry[2:])}


_SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+")


def _units(text: str) -> set[str]:
    """Words of a text; in scripts without spaces, its substrings of 2 to 6 characters."""
    runs = _SPACELESS.findall(text)
    stretches = {run[i : i + n] for run in runs for n in range(2, 7) for i in range(len(run) - n + 1)}
    return stretches | set(re.findall(r"[^\W\d_]{2,}", _SPACELESS.sub(" ", text)))
