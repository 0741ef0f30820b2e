"""Generated responses kept batch by batch: a killed evaluation goes on behind its last whole batch.

lm_eval's own cache of responses (`use_cache`) is no help there: it deals the requests that are left out
into other batches, which can change the numbers, and under vLLM it never finds what it kept of a batch.
Here the batches are the same ones whether or not a run was interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import append_text, write_text
from lens_eval.base.reading import parse_json
from lens_eval.base.reading import text as as_text
from lens_eval.base.templates import rendered

KEPT = ".responses.partial"
AT_ONCE = 512
"""Requests handed to vLLM together where its batch size is `auto`: it fills its batches itself."""


@dataclass(frozen=True)
class Keep:
    """Where the responses of one cell are kept while it is evaluated, and what they belong to.

    A task may have the model generate more than once: the second turn of a dialogue is asked after the first
    one. Each time has a file of its own.
    """

    folder: Path
    """The cell's own, which is not there yet; the files lie beside it."""
    key: str
    """Of the cell: responses kept under another key are never used."""
    seed: int = 0
    """For sampled responses: each batch has its own seed, so that it comes out alike after a resume."""

    def file(self, number: int = 0) -> Path:
        """The file of the generation of this number."""
        return self.folder.with_name(f"{self.folder.name}{f'.{number}' if number else ''}{KEPT}")

    def remove(self) -> None:
        """Remove the files: the cell is finished."""
        number = 0
        while os.path.lexists(file := self.file(number)):
            file.unlink()
            number += 1


@dataclass
class KeptResponses:
    """The file of kept responses: one line on what they are, then one line per finished batch.

    A line cut short by a kill (and what follows it) counts as not there.
    """

    file: Path
    identity: Mapping[str, str]
    size: int
    """Requests per batch; that of the file where there is one, however large a batch would fit now."""
    batches: list[list[str]] = field(default_factory=list)

    @staticmethod
    def open(
        file: Path, key: str, requests: Sequence[tuple[str, Mapping[str, Any]]], size: Callable[[], int]
    ) -> KeptResponses:
        """Read what is there of these requests under this key; start anew where it is of something else."""
        text = json.dumps(requests, sort_keys=True, ensure_ascii=False, default=str)
        identity = {"key": key, "requests": hashlib.sha256(text.encode()).hexdigest()}
        lines = _whole_lines(file)
        head = next(lines, {})
        there = head.get("size")
        if isinstance(there, int) and there > 0 and head == {**identity, "size": there}:
            batches: Iterator[Any] = itertools.takewhile(
                _are_texts, (line.get("responses") for line in lines)
            )
            kept = KeptResponses(file, identity, there, list(batches))
        else:
            kept = KeptResponses(file, identity, size())
        kept._rewrite()
        return kept

    def add(self, responses: Sequence[str]) -> None:
        """Keep one more batch; it is on the disk when this returns."""
        self.batches.append(list(responses))
        append_text(self.file, _line({"responses": list(responses)}))

    def fit(self, batches: Sequence[Sequence[int]]) -> None:
        """Leave out what has not as many responses as its batch has requests, and what follows it."""
        pairs = itertools.takewhile(
            lambda pair: len(pair[0]) == len(pair[1]), zip(batches, self.batches, strict=False)
        )
        self.batches = [responses for _, responses in pairs]

    def _rewrite(self) -> None:
        """Without the line that a kill cut short, nothing can be written behind it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lines: list[dict[str, Any]] = [{**self.identity, "size": self.size}]
        lines += [{"responses": batch} for batch in self.batches]
        write_text(self.file, "".join(_line(line) for line in lines))


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=True) + "\n"


def _are_texts(batch: Any) -> bool:
    return isinstance(batch, list) and all(isinstance(response, str) for response in batch)


def _whole_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines up to the first one that was cut short by a kill, or is no line of ours."""
    if file.is_symlink() or not file.is_file():
        return
    with contextlib.suppress(UserError):
        for line in file.read_bytes().split(b"\n")[:-1]:  # what stands behind the last line break was cut
            document = parse_json(as_text(line, "it"), "it")
            if not isinstance(document, dict):
                return
            yield document


def in_batches(
    requests: Sequence[tuple[str, Mapping[str, Any]]], size: int, length: Callable[[str], int]
) -> list[list[int]]:
    """Indices of the requests, batch by batch, as lm_eval's backends take them: like settings, longest first.

    Args:
        requests: prompt and generation settings.
        length: of a prompt, in tokens.
    """
    groups: dict[str, list[int]] = {}
    for index, (_, settings) in enumerate(requests):
        name = json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)
        groups.setdefault(name, []).append(index)
    batches = []
    for own in groups.values():
        own.sort(key=lambda index: (-length(requests[index][0]), requests[index][0]))
        batches += [own[start : start + size] for start in range(0, len(own), size)]
    return batches


class KeepsResponses:
    """Mixed into a backend of lm_eval: generates batch by batch and keeps each; notes the time of inference.

    Greedy responses are those of the bare backend, since each batch holds the same requests. Sampled ones are
    drawn with a seed per batch (vLLM: per request), so that they too are the same after a resume.
    """

    seconds = 0.0
    """Time spent in the model since it was loaded."""
    _keep: Keep | None = None
    _generations = 0
    """How often the model was asked to generate since `_keep` was set."""
    ask: Callable[[Sequence[dict[str, str]]], list[dict[str, str]]] | None = None
    """Changes the messages of every prompt before the template."""
    cut: frozenset[str] = frozenset()
    """Hashes of the prompts that did not fit in the context and were cut, since `cut` was last emptied."""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], *arguments: Any, **settings: Any
    ) -> str:
        """As the backend's own.

        Raises:
            UserError: the template fails, does not end, or leaves a user message out.
        """
        name = str(getattr(getattr(self, "tokenizer", None), "name_or_path", "the model"))
        own = super().apply_chat_template  # type: ignore[misc]
        chat_history = chat_history if self.ask is None else self.ask(chat_history)
        if getattr(self, "tokenizer", None) is None:  # the server has the template
            return own(chat_history, *arguments, **settings)
        return rendered(lambda: own(chat_history, *arguments, **settings), chat_history, name)

    @contextmanager
    def keeping(self, keep: Keep) -> Iterator[None]:
        """Keep the responses generated meanwhile in the files of `keep`."""
        self._keep, self._generations = keep, 0
        try:
            yield
        finally:
            self._keep = None

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """As the backend's own."""
        # Messages for a server are no text: it alone knows their tokens, and refuses what does not fit.
        self._note_cut((r.args[0], self._room(r.args[1])) for r in requests if isinstance(r.args[0], str))
        if self._keep is None or not requests:
            with self._timed():
                return super().generate_until(requests, disable_tqdm=disable_tqdm)  # type: ignore[misc]
        from tqdm import tqdm

        pairs = [request.args for request in requests]
        file = self._keep.file(self._generations)
        self._generations += 1
        kept = KeptResponses.open(file, self._keep.key, pairs, self._largest_batch)
        batches = in_batches(pairs, kept.size, self._length)
        kept.fit(batches)
        found: dict[int, str] = {}
        for batch, responses in zip(batches, kept.batches, strict=False):
            found.update(zip(batch, responses, strict=True))
        label = "Running generate_until requests"
        with tqdm(total=len(requests), initial=len(found), desc=label, disable=disable_tqdm) as bar:
            for number in range(len(kept.batches), len(batches)):
                batch = batches[number]
                responses = self._generate([requests[index] for index in batch], number, kept.size)
                kept.add(responses)
                found.update(zip(batch, responses, strict=True))
                bar.update(len(batch))
        return [found[index] for index in range(len(requests))]

    def _length(self, prompt: Any) -> int:
        if not isinstance(prompt, str):
            return len(prompt[0])
        return len(self.tok_encode(prompt))  # type: ignore[attr-defined]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As the backend's own.

        Raises:
            UserError: scores that are NaN or infinite.
        """
        with self._timed():
            found = super().loglikelihood(requests, disable_tqdm=disable_tqdm)  # type: ignore[misc]
        require_finite([score for score, _ in found])
        return found

    def _loglikelihood_tokens(self, requests: Sequence[Any], *arguments: Any, **settings: Any) -> Any:
        """As the backend's own; contexts that do not fit are noted."""
        limit = int(self.max_length)  # type: ignore[attr-defined]
        long = [
            r
            for r in requests
            if r[0] and len(r[1]) + len(r[2]) > limit + hasattr(self, "_detect_batch_size")
        ]
        self.cut |= {_digest(str(r[0][0])) for r in long}
        return super()._loglikelihood_tokens(requests, *arguments, **settings)  # type: ignore[misc]

    def _room(self, settings: Mapping[str, Any]) -> int:
        """Tokens that a prompt may have beside its answer."""
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        given = next((settings[name] for name in names if settings.get(name)), self.max_gen_toks)  # type: ignore[attr-defined]
        return int(self.max_length) - int(given)  # type: ignore[attr-defined]

    def _note_cut(self, prompts: Iterable[tuple[str, int]]) -> None:
        for text, room in prompts:
            # A token has at least a character, as a rule: only what could be too long is encoded.
            if len(text.encode("utf-8", "replace")) > room and len(self.tok_encode(text)) > room:  # type: ignore[attr-defined]
                self.cut |= {_digest(text)}

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As the backend's own.

        Raises:
            UserError: scores that are NaN or infinite.
        """
        with self._timed():
            found = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)  # type: ignore[misc]
        require_finite(found)
        return found

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def _largest_batch(self) -> int:
        """The batch size asked for; where that is `auto`, what fits (hf) or keeps it busy (vLLM)."""
        size: Any = self.batch_size  # type: ignore[attr-defined]
        if not (isinstance(size, str) and size.startswith("auto")):
            return max(1, int(size))
        detect = getattr(self, "_detect_batch_size", None)
        return AT_ONCE if detect is None else int(detect())

    def _generate(self, requests: list[Any], number: int, size: int) -> list[str]:
        """Responses to one batch, drawn with its own seed where they are sampled."""
        import torch

        assert self._keep is not None
        digest = hashlib.sha256(f"{self._keep.seed} {number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        torch.manual_seed(seed)
        if hasattr(self, "batch_size_per_gpu"):
            with self._timed(), _attribute(self, "batch_size_per_gpu", size):
                return super().generate_until(requests, disable_tqdm=True)  # type: ignore[misc]
        # vLLM draws in processes of its own: there the seed goes with the request.
        seeded = [_with_seed(request, seed + index) for index, request in enumerate(requests)]
        with self._timed():
            return super().generate_until(seeded, disable_tqdm=True)  # type: ignore[misc]


def require_finite(scores: Sequence[float]) -> None:
    """Refuse log-likelihoods that are none: the best of NaN is whichever stands first.

    Raises:
        UserError: with their number.
    """
    bad = sum(not math.isfinite(score) for score in scores)
    if bad:
        raise UserError(
            f"{bad} of {len(scores)} scores are NaN or infinite: the weights hold such numbers, "
            "or overflow in this dtype; try dtype=float32 or bfloat16, and `lens doctor`"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@contextmanager
def _attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)


def _with_seed(request: Any, seed: int) -> Any:
    """The request with a seed of its own where it is sampled and names none."""
    import copy

    prompt, settings = request.args
    sampled = settings.get("do_sample") or float(settings.get("temperature") or 0.0) > 0
    if not sampled or "seed" in settings:
        return request
    seeded = copy.copy(request)
    seeded.arguments = (prompt, {**settings, "seed": seed})
    return seeded


def keeping(backend: Any) -> Any:
    """The class of an lm_eval backend with `KeepsResponses` mixed in."""
    return type(f"Keeping{backend.__name__}", (KeepsResponses, backend), {})
