"""Question alignment (QAlign, arXiv 2401.07817): translate questions into English, then answer in English.

Stage 1 trains the model to translate prompts of all other languages into the central language, so that it
understands them alike. Stage 2 trains central answers to central prompts. The model sees no answer in another
language: the method is about reasoning, and does not ask for an answer in the language of the question.
"""

from __future__ import annotations

from collections.abc import Sequence

from lens_eval.base.errors import UserError
from lens_eval.language.languages import get_language
from lens_train import methods
from lens_train.baselines import tuning
from lens_train.baselines.pairs import Example, Item
from lens_train.baselines.training_log import Stage
from lens_train.baselines.tuning import TuningSettings
from lens_train.job import Job


def train(job: Job) -> None:
    """Run both stages on the pairs of `job.data` and leave a checkpoint in `job.output`."""
    settings = methods.read_settings(TuningSettings, job.settings, job.method)
    data, items = tuning.load_budget(job, settings)
    if not data.parallel:
        raise UserError(f"{data.path}: qalign translates prompts, so it needs every item in every language")
    run = tuning.Run(job, settings)
    questions, question_counts = run.screen(question_examples(items, job.languages, job.central))
    answers, answer_counts = run.screen(answer_examples(items, job.central))
    run.stage(Stage("questions", questions, last=False))
    run.stage(Stage("answers", answers))
    run.finish(tuning.data_record(data, items, {"questions": question_counts, "answers": answer_counts}))


def question_examples(items: Sequence[Item], languages: Sequence[str], central: str) -> list[Example]:
    """Stage 1: translate the prompt from each other language into the central one."""
    return [
        Example(
            item.id,
            central,
            translation_request(item.prompt[language], language, central),
            item.prompt[central],
            "translate",
        )
        for item in items
        for language in languages
        if language != central
    ]


def answer_examples(items: Sequence[Item], central: str) -> list[Example]:
    """Stage 2: the central prompt and its answer."""
    return [Example(item.id, central, item.prompt[central], item.response[central]) for item in items]


def translation_request(text: str, source: str, target: str) -> str:
    """Ask for a translation, in English."""
    names = get_language(source).name, get_language(target).name
    return f"Translate the following text from {names[0]} to {names[1]}.\n\n{text}"
