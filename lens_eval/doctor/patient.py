"""What is examined: a model as lm_eval feeds it, without its weights; and how a check comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lens_eval.base.errors import UserError
from lens_eval.base.reading import read_object
from lens_eval.base.templates import rendered

if TYPE_CHECKING:
    from lens_eval.runs.recipe import Backend


T = TypeVar("T")
Outcome = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """How one check came out; `task` where it is about one."""

    check: str
    outcome: Outcome
    words: str
    """What was found, and what to do about it."""
    task: str = ""


@dataclass(frozen=True)
class Patient:
    """What is examined."""

    model: str
    """Hub id or folder of the whole model."""
    adapter: str | None
    backend: Backend
    device: str = "auto"
    checkpoint: Any = field(default=None, repr=False)
    """The whole model's `lens_train.checkpoint.Checkpoint`."""
    tokenizer: Any = field(default=None, repr=False)
    config: Any = field(default=None, repr=False)
    generation: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """`generation_config.json`."""

    @property
    def uses_template(self) -> bool:
        """Whether a run renders prompts through the chat template."""
        if self.backend.apply_chat_template != "auto":
            return bool(self.backend.apply_chat_template)
        return bool(self.tokenizer.chat_template)

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together, as lm_eval finds them."""
        from lm_eval.models.utils import DEFAULT_MAX_LENGTH, resolve_max_length

        given = self.backend.args.get("max_length") or self.backend.args.get("max_model_len")
        return int(given or resolve_max_length(self.config, self.tokenizer, default=DEFAULT_MAX_LENGTH))


@dataclass(frozen=True)
class Prompt:
    """One request of a task: the text, and its end where an option is scored."""

    text: str
    continuation: str | None
    settings: Mapping[str, Any]
    """Generation settings; empty where an option is scored."""


def admit(model: str, adapter: str | None, backend: Backend, device: str = "auto") -> Patient:
    """Load configuration and tokenizer, no weights.

    Raises:
        UserError: no such model or adapter, or no tokenizer.
    """
    from lens_eval.runs.sources import model_arguments
    from lens_train.checkpoint import Checkpoint, adapter_tokenizer
    from lens_train.devices import resolve_device

    resolve_device(device)
    arguments = model_arguments(model, adapter)
    name, adapter = arguments["pretrained"], arguments.get("peft")
    if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(f"no adapter in {adapter}: it holds no adapter_config.json")
    checkpoint = Checkpoint.open(name, backend.revision)
    file = checkpoint.folder / "generation_config.json"
    generation = read_object(file, "generation configuration") if file.is_file() else {}
    tokenizer, config = checkpoint.tokenizer, checkpoint.config
    if adapter is not None:
        tokenizer = adapter_tokenizer(checkpoint, Path(adapter))
    return Patient(name, adapter, backend, device, checkpoint, tokenizer, config, generation)


class Prompter:
    """lm_eval's own code for prompts and tokens, without the weights that its models load."""

    backend = "causal"

    def __init__(self, patient: Patient) -> None:
        arguments = patient.backend.args
        self.tokenizer = patient.tokenizer
        self.add_bos_token: bool | None = arguments.get("add_bos_token")
        self.chat_template_args: dict[str, Any] = dict(arguments.get("chat_template_args") or {})
        if arguments.get("enable_thinking") is not None:
            self.chat_template_args["enable_thinking"] = arguments["enable_thinking"]

    @property
    def prefix_token_id(self) -> int | None:
        """What an empty context is replaced by."""
        bos = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if bos is None else bos

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The template on `messages`; raises `UserError` if it fails or does not end."""
        return rendered(
            lambda: self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True, **self.chat_template_args
            ),
            (),
            str(self.tokenizer.name_or_path),
        )

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """As lm_eval's models do it."""
        from lm_eval.models.huggingface import HFLM

        return rendered(
            lambda: HFLM.apply_chat_template(self, chat_history, add_generation_prompt),
            chat_history,
            str(self.tokenizer.name_or_path),
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text to be scored by hf, and of any text by vLLM: both have the same rule."""
        from lm_eval.models.huggingface import HFLM

        return HFLM.tok_encode(self, string, add_special_tokens)

    def encode(self, text: str, continuation: str | None = None, backend: str = "hf") -> list[int]:
        """Tokens that a backend feeds for one request."""
        from lm_eval.api.model import TemplateLM
        from lm_eval.models.huggingface import HFLM

        if continuation is not None:
            context, rest = TemplateLM._encode_pair(self, text, continuation)
            return [*context, *rest]
        if backend == "hf":
            tokens, _ = HFLM.tok_batch_encode(_Padding(self), [text])
            return tokens[0].tolist()
        return self.tok_encode(text)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """A place-holder for the first answer that a second turn is asked after."""
        return ["(the model's first answer)" for _ in requests]


class _Padding:
    """A `Prompter` whose tokenizer may pad, as lm_eval makes it."""

    backend = "causal"

    def __init__(self, prompter: Prompter) -> None:
        import copy

        self.tokenizer = copy.copy(prompter.tokenizer)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.bos_token
        self.add_bos_token = prompter.add_bos_token


def isolated(name: str, check: Callable[[], T], task: str = "") -> T | Result:
    """What a check finds; if it fails itself, a row that says how, so that the others go on."""
    try:
        return check()
    except Exception as error:  # a patient can be ill in any way
        words = first_line(error)
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return Result(name, "failed", f"cannot be looked at: {kind}{words}", task)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def shortened(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")
