"""Language detectors behind one small interface.

A detector answers one question: which of these candidate languages is this text most likely in, and how sure
is it. Scripts, abstention and everything else lie above it, in `lens_eval.language.off_target`. Adding a
detector is one class with the three members of `Detector` and a line in `DETECTORS`.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.identity import version_of, versions_of
from lens_eval.language.languages import find_code


class Detector(Protocol):
    """What the off-target metric needs of a language detector."""

    name: str
    version: str

    def unsupported(self, candidates: Iterable[str]) -> list[str]:
        """Return those of the project's language codes that this detector does not know."""

    def best(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
        """Return the likeliest of at least two candidates and its share of the probability, 0 to 1.

        Deterministic; `text` holds letters and no newline.
        """


class Lingua:
    """lingua (Rust, models inside the package), restricted to the candidates: the default.

    `best` looks at n-grams of every length. `glance` looks at trigrams alone, which is quick and small enough
    to hold every language.
    """

    GLANCE = 80  # characters

    def __init__(self) -> None:
        import lingua

        self.name = "lingua"
        self.version = version_of("lingua-language-detector") or "unknown"
        self._builder = lingua.LanguageDetectorBuilder
        self._languages = {
            language.iso_code_639_1.name.lower(): language for language in lingua.Language.all()
        }
        self._codes = {language: code for code, language in self._languages.items()}
        self._quick: dict[tuple[str, ...], Any] = {}
        self._thorough: dict[tuple[str, ...], Any] = {}

    def unsupported(self, candidates: Iterable[str]) -> list[str]:
        return [code for code in candidates if code not in self._languages]

    def best(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
        if candidates not in self._thorough:
            self._thorough[candidates] = self._build(candidates).build()
        return self._first(self._thorough[candidates].compute_language_confidence_values(text))

    def glance(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
        """Return the likeliest of many candidates and its share, by the trigrams of words taken evenly."""
        if candidates not in self._quick:
            self._quick[candidates] = self._build(candidates).with_low_accuracy_mode().build()
        step = -(-len(text) // self.GLANCE)
        sample = text if step < 2 else " ".join(text.split(" ")[::step])
        return self._first(self._quick[candidates].compute_language_confidence_values(sample))

    def _build(self, candidates: tuple[str, ...]) -> Any:
        languages = (self._languages[code] for code in candidates)
        # Preloading reads the models in as many threads as there are cores, otherwise one does it.
        return self._builder.from_languages(*languages).with_preloaded_language_models()

    def _first(self, shares: Sequence[Any]) -> tuple[str, float]:
        # Sums of floats in lingua depend on the order of a hash set; six digits do not.
        return self._codes[shares[0].language], round(shares[0].value, 6)


class Langdetect:
    """langdetect, which much of the literature used; seeded, because it draws random numbers, and restricted
    to the candidates through its prior."""

    def __init__(self) -> None:
        factory_module = _import_extra("langdetect.detector_factory", "langdetect", "langdetect")
        factory_module.init_factory()
        self.name = "langdetect"
        self.version = f"{version_of('langdetect')} (seed 0)"
        self._factory = factory_module._factory
        self._labels: dict[str, list[str]] = {}
        for label in self._factory.get_lang_list():
            code = find_code(label)
            if code:
                self._labels.setdefault(code, []).append(label)

    def unsupported(self, candidates: Iterable[str]) -> list[str]:
        return [code for code in candidates if code not in self._labels]

    def best(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
        from langdetect.lang_detect_exception import LangDetectException

        detector = self._factory.create()
        detector.seed = 0
        labels = {label: code for code in candidates for label in self._labels[code]}
        detector.set_prior_map(dict.fromkeys(labels, 1.0))
        detector.append(text)
        shares = dict.fromkeys(candidates, 0.0)
        try:
            for guess in detector.get_probabilities():
                if guess.lang in labels:
                    shares[labels[guess.lang]] += guess.prob
        except LangDetectException:  # it found no letters it knows
            return candidates[0], 0.0
        code = max(candidates, key=lambda candidate: shares[candidate])
        return code, round(shares[code], 6)


class FastText:
    """A fastText model the user names (lid.176.bin, lid.176.ftz, GlotLID's model_v3.bin, ...), restricted to
    the candidates by comparing their probabilities only."""

    def __init__(self, model: Path) -> None:
        fasttext = _import_extra("fasttext", "fasttext-predict", "fasttext")
        if not model.is_file():
            raise UserError(
                f"no fastText model at {model}; download one, for instance lid.176.bin from "
                "https://fasttext.cc/docs/en/language-identification.html, and name it: "
                "--detector fasttext:FILE"
            )
        try:
            self._model = fasttext.load_model(str(model))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{model} is not a fastText model: {error}") from error
        self.name = f"fasttext:{model.name}"
        [(package, version), *_] = versions_of(("fasttext-predict", "fasttext")).items()
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        self.version = f"{package} {version}, model sha256 {digest[:16]}"
        self._codes: dict[str, str | None] = {}
        self._known: set[str] | None = None

    def labels(self, text: str, threshold: float = 0.0, k: int = -1) -> list[tuple[str, float]]:
        """Return the model's own top-k labels (without `__label__`) and probabilities, all with k = -1."""
        labels, probabilities = self._model.predict(text.replace("\n", " "), k=k, threshold=threshold)
        return [
            (label.removeprefix("__label__"), float(probability))
            for label, probability in zip(labels, probabilities, strict=True)
        ]

    def _code(self, label: str) -> str | None:
        if label not in self._codes:
            self._codes[label] = find_code(label)
        return self._codes[label]

    def unsupported(self, candidates: Iterable[str]) -> list[str]:
        if self._known is None:
            # Every label of the model comes back, with some probability, for any text.
            self._known = {code for label, _ in self.labels("a") if (code := self._code(label))}
        return [code for code in candidates if code not in self._known]

    def best(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
        shares = dict.fromkeys(candidates, 0.0)
        for label, probability in self.labels(text):
            code = self._code(label)
            if code in shares:
                shares[code] += probability
        total = sum(shares.values())
        code = max(candidates, key=lambda candidate: shares[candidate])
        return code, round(shares[code] / total, 6) if total else 0.0


def _import_extra(module: str, package: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the detector needs the package {package}: pip install 'lens-multilingual[{extra}]'"
        ) from error


# What fastText's lid.176 knows of what lingua does not; GlotLID knows every language of the table.
_LID_176_ALONE = (
    "am as ast ba bo br ceb ckb cv dv fy gd gl gn gom ht ilo jv km ku ky lb li lmo lo mai mg min mt my nah "
    "ne oc or pam ps qu sa sah sc scn sd si su tg tk tt ug uz vec war yi"
)


def known_by(codes: Iterable[str]) -> str:
    """Return the fastText models that know all of the languages, in words."""
    return "lid.176 or GlotLID" if set(codes) <= set(_LID_176_ALONE.split()) else "GlotLID"


DETECTORS: dict[str, Callable[[], Detector]] = {"lingua": Lingua, "langdetect": Langdetect}


@lru_cache(maxsize=8)
def get_detector(name: str = "lingua") -> Detector:
    """Return the detector of a name: `lingua`, `langdetect`, or `fasttext:FILE`.

    Raises `UserError` for an unknown name, a missing optional package, or a missing or unreadable model file.
    """
    kind, _, model = name.partition(":")
    if kind == "fasttext":
        if not model:
            raise UserError("a fastText detector needs its model file: --detector fasttext:lid.176.bin")
        return FastText(Path(model).expanduser())
    if name not in DETECTORS:
        known = [*DETECTORS, "fasttext:FILE"]
        raise UserError(
            f"unknown detector {name!r}{did_you_mean(name, DETECTORS)}; known: {', '.join(known)}"
        )
    return DETECTORS[name]()
