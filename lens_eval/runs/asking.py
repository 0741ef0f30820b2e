"""Variants without training: the same model, told or shown in which language to answer.

`prompted` adds a sentence in the language of the task that asks for that language alone (the word `only` of
the word table). `few_shot` puts questions and answers in that language before the question, as turns of their
own. Both change the messages before the chat template; the items and what is scored stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.runs.recipe import Recipe, VariantSpec, require_set
from lens_eval.tasks.words import word

Message = dict[str, str]


@dataclass(frozen=True)
class Asking:
    """What is put beside the messages of one task."""

    sentence: str = ""
    """Behind the last message of the user."""
    turns: tuple[Message, ...] = ()
    """Before the first message that is not the system's."""

    def __call__(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with it; those given stay as they are."""
        found = [dict(message) for message in messages]
        if self.sentence:
            last = max(place for place, message in enumerate(found) if message["role"] == "user")
            found[last]["content"] += f"\n\n{self.sentence}"
        first = next((place for place, m in enumerate(found) if m["role"] != "system"), 0)
        return [*found[:first], *map(dict, self.turns), *found[first:]]


def asking_for(recipe: Recipe, spec: VariantSpec, language: str, task: str) -> Asking | None:
    """What a variant adds in a task's language; None where it adds nothing.

    Raises:
        UserError: the task does not say its language, there is no sentence in it, or no examples.
    """
    if spec.ask is None:
        return None
    if not language:
        raise UserError(f"{task} does not say its language, so {spec.ask} cannot ask for one")
    if spec.ask == "prompted":
        return Asking(sentence=word(language, "only"))
    return Asking(turns=_turns(recipe, spec, language))


def check_asking(recipe: Recipe, spec: VariantSpec) -> None:
    """Refuse before work a variant whose sentences or examples are not there.

    Raises:
        UserError: as the name says.
    """
    if spec.ask is not None:
        for language in recipe.languages:
            asking_for(recipe, spec, language, "")


def _turns(recipe: Recipe, spec: VariantSpec, language: str) -> tuple[Message, ...]:
    """The first items of the data that have question and answer in the language, as turns."""
    from lens_eval.mini import resolve_data
    from lens_train.baselines.pairs import examples, read_pairs, take

    where = f"variants.{spec.name}"
    data = spec.data or recipe.train_data
    if not data:
        raise UserError(f"{where}: few_shot needs questions with answers; say data here or data.train")
    require_set(data, where)
    path = Path(resolve_data(data))
    if not path.exists():
        raise UserError(f"{where}: no parallel data {path}")
    shown = examples(take(read_pairs(path, (language,)), spec.shots), (language,))
    if len(shown) < spec.shots:
        raise UserError(
            f"{where}: {spec.shots} examples are asked for, {path} has {len(shown)} in {language}"
        )
    return tuple(
        message
        for example in shown
        for message in (
            {"role": "user", "content": example.prompt},
            {"role": "assistant", "content": example.response},
        )
    )
