"""The text of every prompt, made of an item and the words of its language (`lens_eval/tasks/words.yaml`).

One function per family for `doc_to_text`, one for its released ("official") protocol, and those for targets
and options. All take a document of `lens_eval/tasks/items.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lens_eval.language.languages import get_language
from lens_eval.tasks import words
from lens_eval.tasks.words import NO_SPACE, label, word

Document = Mapping[str, Any]


def join_sentences(sentences: Sequence[str], language: str) -> str:
    """Join sentences into running text: no space between them in Chinese, Japanese and Thai."""
    return ("" if language in NO_SPACE else " ").join(sentences)


def _options(options: Sequence[str], letters: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=True))


def _choice(doc: Document, lines: Sequence[str], options: Sequence[str]) -> str:
    """Return a multiple-choice prompt in the language of the item; the answer follows its last character."""
    language, count = doc["language"], len(options)
    reply = word(language, "reply").format(letters=words.list_letters(language, count))
    listed = _options(options, words.letters(language, count))
    return "\n".join([*lines, listed, reply, word(language, "answer")])


def option_letters(doc: Document) -> list[str]:
    """Return the letters of the options that exist."""
    return words.letters(doc["language"], option_count(doc))


def official_letters(doc: Document) -> list[str]:
    """Return the letters of the released protocol (its third Arabic letter is kaf)."""
    return words.letters(doc["language"], option_count(doc), official=True)


def option_count(doc: Document) -> int:
    """Return how many options an item has; the three of XNLI are not part of its rows."""
    return len(doc["choices"]) if "choices" in doc else 3


# --- families -------------------------------------------------------------------------------------


def xnli(doc: Document) -> str:
    """Premise, hypothesis, and the three relations worded in the language."""
    language = doc["language"]
    lines = [
        label(language, "premise", doc["premise"]),
        label(language, "hypothesis", doc["hypothesis"]),
        word(language, "relation"),
    ]
    return _choice(doc, lines, [word(language, key) for key in ("entailment", "neutral", "contradiction")])


def xcopa(doc: Document) -> str:
    """Premise, the question for its cause or effect, two options."""
    return _choice(doc, [doc["premise"], word(doc["language"], doc["question"])], doc["choices"])


def xwinograd(doc: Document) -> str:
    """Sentence with a blank, two options for it."""
    return _choice(doc, [doc["sentence"], word(doc["language"], "blank")], doc["choices"])


def xstorycloze(doc: Document) -> str:
    """Four-sentence story, two endings."""
    story = join_sentences(doc["sentences"], doc["language"])
    return _choice(doc, [story, word(doc["language"], "ending")], doc["choices"])


def mmlu(doc: Document) -> str:
    """Question with four options (also KMMLU)."""
    return _choice(doc, [doc["question"]], doc["choices"])


def mgsm(doc: Document) -> str:
    """Instruction to work in steps in the language of the question, then the question as in the exemplars."""
    return f"{word(doc['language'], 'solve')}\n\n{mgsm_exemplar(doc)}"


def mgsm_exemplar(doc: Document) -> str:
    """Question and the cue for a worked answer, worded as the published exemplars."""
    language = doc["language"]
    return f"{label(language, 'question', doc['question'])}\n{word(language, 'steps')}"


def mgsm_target(doc: Document) -> str:
    """The published worked solution of an exemplar; of a test item the sentence it should end on."""
    final = word(doc["language"], "final").format(number=doc["answer_number"])
    return doc.get("solution") or final


def question(doc: Document) -> str:
    """The question as it is."""
    return doc["question"]


def polymath(doc: Document) -> str:
    """Instruction to work in steps in the language of the problem and to box the answer, then the problem."""
    return f"{word(doc['language'], 'boxed')}\n\n{doc['question']}"


def printed_letters(doc: Document) -> list[str]:
    """Return the letters that a data set itself prints: A, B, C and so on, in every language."""
    return words.letters(doc["language"], option_count(doc), printed=True)


def printed_choice(doc: Document) -> str:
    """Question, behind its passage if it has one, and options with the letters that the data set prints."""
    language, letters = doc["language"], printed_letters(doc)
    lines = [doc["passage"], doc["question"]] if "passage" in doc else [doc["question"]]
    listed = words.list_letters(language, len(letters), printed=True)
    reply = word(language, "reply").format(letters=listed)
    return "\n".join([*lines, _options(doc["choices"], letters), reply, word(language, "answer")])


def worked_choice(doc: Document) -> str:
    """Instruction to reason in the language of the question and to end on a letter, question, options."""
    language, letters = doc["language"], printed_letters(doc)
    listed = words.list_letters(language, len(letters), printed=True)
    instruction = word(language, "choose").format(letters=listed)
    return f"{instruction}\n\n{doc['question']}\n{_options(doc['choices'], letters)}"


def worked_choice_target(doc: Document) -> str:
    """The sentence that a worked choice should end on."""
    return word(doc["language"], "final").format(number=printed_letters(doc)[doc["answer"]])


def mtbench(doc: Document) -> str:
    """The first question of a dialogue, as it is."""
    return doc["turns"][0]


# --- the released protocol ------------------------------------------------------------------------
# What is kept of it: an English instruction that names the language, the item's own text, lettered options,
# the request for the answer alone, the cue "Answer:". The wording is ours: the release has no licence.


def _official(doc: Document, role: str, lines: Sequence[str]) -> str:
    name = get_language(doc["language"]).name
    listed = _options(doc["choices"], words.letters(doc["language"], option_count(doc), official=True))
    request = "Choose the correct option. Give only the option, without an explanation."
    return "\n".join([f"You are an expert in {role} in {name}.", *lines, listed, request, "Answer:"])


def xcopa_official(doc: Document) -> str:
    """Premise and the bare word "cause" or "effect" in an English frame, as the published file has it."""
    lines = [f"Premise: {doc['premise']}", f"Question: {doc['published_question']} - what is it?"]
    return _official(doc, "commonsense reasoning", lines)


def xwinograd_official(doc: Document) -> str:
    """Incomplete sentence in an English frame."""
    lines = [
        f"Incomplete sentence: {doc['sentence']}",
        "Question: Which option completes it more reasonably?",
    ]
    return _official(doc, "sentence completion", lines)


def xstorycloze_official(doc: Document) -> str:
    """Story in an English frame; its sentences are joined without spaces, as in the release."""
    lines = [
        f"Story: {''.join(doc['sentences'])}",
        "Question: Which option is the more reasonable continuation?",
    ]
    return _official(doc, "commonsense reasoning", lines)


def mmlu_official(doc: Document) -> str:
    """Question in an English frame (also KMMLU)."""
    return _official(doc, "answering questions", [f"Question: {doc['question']}"])
