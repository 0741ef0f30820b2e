"""The class of every Lens task in lm_eval: its items, the record of their rows, and what it refuses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from types import MappingProxyType, TracebackType
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say
from lens_eval.language.reasoning import continued
from lens_eval.tasks import items, math_answers
from lens_eval.tasks.finding import DATA_DIR_VARIABLE, MissingItems
from lens_eval.tasks.letters import read_letter
from lens_eval.upstream import group_errors

logger = logging.getLogger(__name__)

# What lm_eval's backends generate at most where a task says nothing.
DEFAULT_MAX_GEN_TOKS = 256
# A letter, and the sentence that some models put it in.
LETTER_TOKENS = 64


class LensTask(ConfigurableTask):
    """An lm_eval task whose items come from `lens_eval.tasks.items`.

    `metadata` names `family`, `language` and `central`; after loading it also holds `rows`: per split the
    number of rows, their SHA-256 and their source, which lm_eval writes into its results.

    In a group, a language that the user's own data folder leaves out is left out with a warning (the
    group's file says `skip_missing: true`): then an empty lm_eval `Group` stands in the place of the task.
    """

    def __new__(cls, *arguments: Any, config: dict[str, Any] | None = None, **keywords: Any) -> Any:
        task = super().__new__(cls)
        if config is None:  # a copy is being made
            return task
        metadata = config["metadata"]
        try:
            task.items, task.rows = items.load(**metadata)
        except UserError as error:
            _print_without_traceback()
            family, language = metadata["family"], metadata["language"]
            skip = config.get("skip_missing", False)
            if not (isinstance(error, MissingItems) and items.may_leave_out(family, skip)):
                raise
            _tell_left_out(family, config["task"])
            return Group(name=config["task"], alias=f"{config['task']} (left out: no {language} items)")
        return task

    _tokenizer: Any = None
    _prompts: Mapping[int | str, str] = MappingProxyType({})
    """Prompts as they were fed, by item."""

    def __init__(self, *arguments: Any, config: dict[str, Any] | None = None, **keywords: Any) -> None:
        settings = {
            key: value for key, value in (config or {}).items() if key not in ("class", "skip_missing")
        }
        settings["metadata"] = {**settings["metadata"], "rows": self.rows}
        if settings.get("fewshot_split") not in self.items:
            settings.pop("fewshot_split", None)
        self.item_scores: dict[str, dict[int | str, float]] = {}
        group_errors.install()
        super().__init__(*arguments, config=settings, **keywords)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **keywords: Any) -> None:
        """Use the items loaded before."""
        self.dataset = self.items

    def fewshot_docs(self) -> Any:
        """What examples are taken from; lm_eval would take test items where no other split is published."""
        return super().fewshot_docs() if self.fewshot_cfg.split else []

    def build_all_requests(self, **keywords: Any) -> None:
        """Build the requests; raises `UserError` where examples are asked for and there are none to take."""
        self.item_scores.clear()  # a task can be asked again, of another model
        shots = self.config.num_fewshot or 0
        split = self.fewshot_cfg.split
        available = len(self.items[split]) - (split == self.config.test_split) if split else 0
        if shots > available:
            _print_without_traceback()
            raise UserError(
                f"{self.config.task}: --num_fewshot {shots} was asked for, there are {available} examples"
            )
        self._tokenizer = getattr(getattr(keywords.get("chat_template"), "__self__", None), "tokenizer", None)
        if keywords.get("chat_template") and "system" in self.config.metadata:
            keywords["chat_template"] = _with_system(
                keywords["chat_template"], self.config.metadata["system"]
            )
        super().build_all_requests(**keywords)
        self._prompts = {}
        if self.OUTPUT_TYPE == "generate_until":
            self._prompts = {instance.doc["id"]: str(instance.args[0]) for instance in self.instances}

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """Score one document; a generated response also gets `cut_off`, where the tokenizer is known.

        The numbers are kept by item, for the standard error of a group (`group_errors`).
        """
        prompt = self._prompts.get(doc["id"])
        # A prompt that ends inside reasoning: the response alone does not tell.
        read = [continued(result, prompt) if isinstance(result, str) else result for result in results]
        scores = super().process_results(doc, read)
        tokenizer = self._find_tokenizer() if self.OUTPUT_TYPE == "generate_until" else None
        if tokenizer is not None:
            scores["cut_off"] = float(cut_off(results[0], tokenizer, self._token_limit()))
        for name, value in scores.items():
            if isinstance(value, float):
                self.item_scores.setdefault(name, {})[doc["id"]] = value
        return scores

    def _find_tokenizer(self) -> Any:
        """Return the model's tokenizer: the model's own where that was seen, else by its name."""
        name = self.config.metadata.get("tokenizer") or self.config.metadata.get("pretrained")
        if self._tokenizer is None and isinstance(name, str):
            revision = self.config.metadata.get("revision") or "main"
            self._tokenizer = _load_tokenizer(name, revision)
        return self._tokenizer

    def _token_limit(self) -> int:
        settings = self.config.generation_kwargs or {}
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        return int(next((settings[name] for name in names if settings.get(name)), DEFAULT_MAX_GEN_TOKS))


class WrittenLetter(LensTask):
    """A choice by its letter for a model that only writes: the letter is read from its reply."""

    @classmethod
    def of(cls, task: LensTask) -> WrittenLetter:
        """The same items and prompts as those of a task that compares the likelihoods of letters."""
        settings = task.config.to_dict(keep_callable=True)
        settings["metadata"] = {k: v for k, v in settings["metadata"].items() if k != "rows"}
        settings |= {
            "output_type": "generate_until",
            "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": LETTER_TOKENS},
            "metric_list": [
                *settings["metric_list"],
                {"metric": "no_answer", "aggregation": "mean", "higher_is_better": False},
            ],
        }
        return cls(config=settings)

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """As if the letter that was written were the likeliest; without one a wrong one is."""
        choices = [str(choice) for choice in self.doc_to_choice(doc)]
        found = read_letter(continued(results[0], self._prompts.get(doc["id"])), [c.strip() for c in choices])
        right = int(doc["answer"])
        taken = (right + 1) % len(choices)
        if found is not None:
            taken = [choice.strip() for choice in choices].index(found)
        scores = [(0.0 if place == taken else -1.0, place == taken) for place in range(len(choices))]
        metrics: dict[str, Any] = self.config.process_results(doc, scores)
        metrics["no_answer"] = float(found is None)
        for name, value in metrics.items():
            self.item_scores.setdefault(name, {})[doc["id"]] = value
        return metrics


class MathTask(LensTask):
    """Problems whose answers are compared by value; refused at once if the parser for them is missing."""

    def __init__(self, *arguments: Any, config: dict[str, Any] | None = None, **keywords: Any) -> None:
        task = str((config or {}).get("task"))
        math_answers.need_parser(self.items["test"]["reference"], task)
        super().__init__(*arguments, config=config, **keywords)


class SecondTurnTask(LensTask):
    """The second question of a dialogue, asked after the model's own answer to the first.

    lm_eval asks every task for its requests before the model has answered any. The model's own first
    answers are therefore generated while the requests are built, with the same settings; the logged
    documents show them as `first_answer`. Needs `--apply_chat_template`: without it lm_eval shows a task no
    model, and a base model has no turns.
    """

    _first_answers: dict[int, str]

    def build_all_requests(self, **keywords: Any) -> None:
        """Generate the first answers, then build the requests of the second turn."""
        chat_template = keywords.get("chat_template")
        model = getattr(chat_template, "__self__", None)
        if chat_template is None or model is None:
            _print_without_traceback()
            raise UserError(
                f"{self.config.task} asks a second question after the first: add --apply_chat_template"
            )
        names = ("rank", "limit", "world_size", "samples")
        chosen = list(self.doc_iterator(**{name: keywords[name] for name in names if name in keywords}))
        system = keywords.get("system_instruction")
        requests = [
            Instance(
                request_type="generate_until",
                doc=doc,
                arguments=(
                    chat_template(_dialogue(system, doc["turns"][:1])),
                    deepcopy(self.config.generation_kwargs),
                ),
                idx=0,
                metadata=(f"{self.config.task} (first turn)", position, 1),
            )
            for position, doc in chosen
        ]
        answers = dict(zip((doc["id"] for _, doc in chosen), model.generate_until(requests), strict=True))
        self._first_answers = answers
        super().build_all_requests(**keywords)

    def fewshot_context(self, doc: dict[str, Any], *arguments: Any, **keywords: Any) -> str:
        """Render the dialogue up to the second question."""
        turns = [doc["turns"][0], self._first_answers[doc["id"]], doc["turns"][1]]
        return keywords["chat_template"](_dialogue(keywords.get("system_instruction"), turns))

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """Score one second answer, and show the first one in the logged document.

        Only there: a part of the documents themselves, it would give each model other items by lm_eval's
        hash of them.
        """
        doc["first_answer"] = self._first_answers[doc["id"]]
        return super().process_results(doc, results)


def _dialogue(system: str | None, turns: Sequence[str]) -> list[dict[str, str]]:
    """Return the messages of a dialogue whose turns alternate, the user's first."""
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [
        {"role": "assistant" if position % 2 else "user", "content": turn}
        for position, turn in enumerate(turns)
    ]


def _with_system(chat_template: Any, system: str) -> Any:
    """Return a chat template that puts a system message first where there is none, even an empty one."""

    def render(messages: list[dict[str, str]], **keywords: Any) -> str:
        has_one = messages[0]["role"] == "system"
        return chat_template(
            messages if has_one else [{"role": "system", "content": system}, *messages], **keywords
        )

    return render


def cut_off(response: str, tokenizer: Any, limit: int) -> bool:
    """Whether a response ran into its limit of `limit` tokens.

    lm_eval hands over text without the reason it ended, so its tokens are counted again. Text can be cut
    into fewer tokens than it was generated in: whatever comes within 2% of the limit counts.
    """
    tokens = len(tokenizer.encode(response, add_special_tokens=False))
    return tokens >= limit - max(1, limit // 50)


@lru_cache(maxsize=2)
def _load_tokenizer(name: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError):
        return None  # a model behind an API, or one whose tokenizer needs code of its own


_told: set[str] = set()


def _tell_left_out(family: str, task: str) -> None:
    """Warn once per family, in a line; the rest of its missing languages are listed at level INFO."""
    level = logging.INFO if family in _told else logging.WARNING
    _told.add(family)
    message = "%s and every other language that %s has no %s items for are left out of the group"
    logger.log(level, message, task, DATA_DIR_VARIABLE, family)


def _print_without_traceback() -> None:
    """Let a mistake of the user's end the process with its one line instead of lm_eval's traceback."""
    before = sys.excepthook
    if getattr(before, "prints_user_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, UserError):
            say(f"lens: {error}", err=True)
        else:
            before(kind, error, traceback)

    hook.prints_user_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook
