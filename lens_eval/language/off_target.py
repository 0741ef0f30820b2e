"""The off-target metric: in which language is a response written, and is it the one that was asked for.

A line is cut into sentences, each sentence is judged, script first, then by a detector over a closed set of
candidate languages; what is too short to tell stays undetermined. A response is on target when every judged
line is. `docs/metrics.md` has the definition in full and what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lens_eval.base.errors import UserError
from lens_eval.language.code_lines import (
    code_beside,
    is_citation,
    machine_line,
    without_brackets,
    without_keys,
    without_title,
)
from lens_eval.language.common_words import only, titled, votes
from lens_eval.language.detectors import Detector, get_detector
from lens_eval.language.foreign import all_native, foreign_words
from lens_eval.language.identify import MIN_CONFIDENCE_INSIDE, UNDETERMINED, Identifier, Target, kana_in
from lens_eval.language.languages import DEFAULT_LANGUAGES, normalise_code
from lens_eval.language.mixing import MIN_COMMON, MIN_SHARE, MIN_WORDS, part, stray_words, uncommon_stretch
from lens_eval.language.quotations import without_quotations
from lens_eval.language.reasoning import read_reasoning
from lens_eval.language.sentences import (
    MAX_PIECE,
    SENTENCE_WORDS,
    Run,
    Segment,
    Unit,
    extend,
    is_sentence,
    joined,
    runs_of,
    units_of,
)
from lens_eval.language.set_aside import (
    NO_PROMPT,
    Prompt,
    is_code,
    names_in_code,
    read_prompt,
    readable,
    set_aside,
    without_identifiers,
    without_list_mark,
)

OUTCOMES = ("on_target", "central", "other", "undetermined")
EMPTY = "empty"

# The share of a sentence its own script needs for the rest to count as borrowed.
NATIVE_SHARE = 0.2


@dataclass(frozen=True)
class Line:
    """One line of a response. `outcome` is one of `OUTCOMES`, or "set_aside" where nothing in it can be
    judged."""

    number: int
    outcome: str
    answered_in: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Verdict:
    """In which language a response is, seen from the one asked for.

    `outcome` is one of `OUTCOMES`; `answered_in` is a language code, the ISO 15924 code of a script that no
    candidate and no single known language uses, a code with `-Latn` for romanised text, "undetermined" or
    "empty"; `letters` counts the letters of each outcome (a Han character counts for several); `thinking` is
    the outcome of the reasoning, None without one; `lines` are the lines with any text, in order.
    `foreign` are words of another script or of the central language inside lines on target: neither names nor
    of the prompt nor accepted borrowings; `foreign_but_central` of them are not of the central language.
    """

    language: str
    outcome: str
    empty: bool
    answered_in: str
    lines: tuple[Line, ...]
    letters: Mapping[str, float]
    thinking: str | None = None
    foreign: tuple[str, ...] = ()
    foreign_but_central: int = 0

    @property
    def characters(self) -> dict[str, float]:
        """Each outcome's share of the letters; sums to 1."""
        total = sum(self.letters.values())
        if not total:
            return {outcome: float(outcome == UNDETERMINED) for outcome in OUTCOMES}
        return {outcome: amount / total for outcome, amount in self.letters.items()}


class Judge:
    """Judges responses against the language asked for.

    `central` is the pivot language; `candidates` the closed set of languages the detector chooses among
    (the central language and the one asked for always belong to it); `detector` a name for
    `lens_eval.language.detectors.get_detector` or a `Detector`; with `split_chinese` an answer in simplified
    characters to a request for `zh-Hant`, or the reverse, is in another language. Raises `UserError` for
    unknown codes, and for languages that share a script and that the detector does not know.
    """

    def __init__(
        self,
        central: str = "en",
        candidates: Iterable[str] = DEFAULT_LANGUAGES,
        detector: str | Detector = "lingua",
        *,
        split_chinese: bool = False,
    ) -> None:
        self.central = normalise_code(central)
        self.candidates = tuple(sorted({self.central, *map(normalise_code, candidates)}))
        self.detector = get_detector(detector) if isinstance(detector, str) else detector
        self.split_chinese = split_chinese
        self._targets: dict[str, Target] = {}
        self._identifier = Identifier(self.detector)
        self.target(self.central)

    def describe(self) -> dict[str, object]:
        """Return what another run needs to give the same verdicts: for results files."""
        return {
            "detector": {"name": self.detector.name, "version": self.detector.version},
            "central": self.central,
            "candidates": list(self.candidates),
            "split_chinese": self.split_chinese,
        }

    def target(self, language: str) -> Target:
        """Check a language asked for; raises `UserError` if its responses cannot be judged."""
        if language not in self._targets:
            self._targets[language] = self._make_target(language)
        return self._targets[language]

    def _make_target(self, language: str) -> Target:
        return self._identifier.target(language, self.candidates, self.split_chinese)

    def judge(self, text: str | None, language: str, prompt: str | None = None) -> Verdict:
        """Judge one response (None counts as empty) to a prompt that asked for an answer in `language`."""
        target = self.target(language)
        given = _read_prompt(prompt)
        self._identifier.forget()
        parts = read_reasoning(readable(text or ""), prompt)
        verdict = self._judge_part(parts.answer, target, given)
        if not parts.thinking.strip():
            return verdict
        apart = self._judge_part(parts.thinking, target, given)
        return Verdict(
            verdict.language,
            verdict.outcome,
            verdict.empty,
            verdict.answered_in,
            verdict.lines,
            verdict.letters,
            apart.outcome,
            verdict.foreign,
            verdict.foreign_but_central,
        )

    def _judge_part(self, text: str, target: Target, prompt: Prompt) -> Verdict:
        if not text or text.isspace():
            return Verdict(target.language, UNDETERMINED, True, EMPTY, (), self._letters((), target))
        whole, text = text, without_keys(without_quotations(set_aside(text), prompt))
        lines: list[Line] = []
        short: Unit = []
        mixed: list[int] = []
        rows = text.splitlines()
        code = [is_code(line) or machine_line(line) or is_citation(line) for line in rows]
        if any(code):
            code = code_beside(rows, code)
        for number, line in enumerate(rows, start=1):
            if not line or line.isspace():
                continue
            segments: list[Segment] = []
            if not code[number - 1]:
                segments, unsure, native = self._judge_line(line, target, prompt)
                if unsure:
                    extend(short, unsure)
                if not native:
                    mixed.append(number)
            answered_in, outcome = self._sum_up(segments, target)
            lines.append(Line(number, outcome if segments else "set_aside", answered_in, tuple(segments)))
        look = [line.number - 1 for line in lines if line.number in mixed and line.outcome == "on_target"]
        texts = [without_identifiers(rows[at]) for at in look]
        if texts:
            prompt = replace(prompt, in_code=names_in_code(whole))
        foreign, but_central = foreign_words(texts, target.language, self.central, target.groups, prompt)
        segments = [segment for line in lines for segment in line.segments]
        judged = [line for line in lines if line.outcome not in (UNDETERMINED, "set_aside")]
        if not judged and len(lines) > 1:
            # Many lines too short to tell apart, a list of words for instance: judge them as one.
            segments = self._judge_unit(short, target, inside=False) or segments
        answered_in, outcome = self._sum_up(segments, target)
        return Verdict(
            target.language,
            outcome,
            False,
            answered_in,
            tuple(lines),
            self._letters(segments, target),
            None,
            foreign,
            but_central,
        )

    def _outcome(self, answered_in: str, target: Target) -> str:
        if answered_in == UNDETERMINED:
            return UNDETERMINED
        if answered_in == target.language:
            return "on_target"
        return "central" if answered_in == self.central else "other"

    def _sum_up(self, segments: Sequence[Segment], target: Target) -> tuple[str, str]:
        """Return language and outcome of a line or response: off target if any judged part of it is."""
        if len(segments) == 1:  # as nearly every line has
            return segments[0][0], self._outcome(segments[0][0], target)
        letters: dict[str, float] = {}
        for code, amount in segments:
            if code != UNDETERMINED:
                letters[code] = letters.get(code, 0.0) + amount
        foreign = {code: amount for code, amount in letters.items() if code != target.language}
        if foreign:
            code = max(sorted(foreign), key=lambda c: foreign[c])
            return code, self._outcome(code, target)
        if letters:
            return target.language, "on_target"
        return UNDETERMINED, UNDETERMINED

    def _letters(self, segments: Sequence[Segment], target: Target) -> dict[str, float]:
        letters = dict.fromkeys(OUTCOMES, 0.0)
        for code, amount in segments:
            letters[self._outcome(code, target)] += amount
        return letters

    def _judge_line(self, line: str, target: Target, prompt: Prompt) -> tuple[list[Segment], Unit, bool]:
        """Return the segments of a line, its words if none of them could be judged, and whether it cannot
        have foreign words."""
        line = without_identifiers(without_brackets(without_list_mark(without_title(line))))
        units = units_of(line, prompt)
        native = all_native(units, target.language, self.central, target.groups)
        if len(units) == 1:
            segments = self._judge_unit(units[0], target, inside=False)
            return segments, [] if _decided(segments) else units[0], native
        segments = [segment for unit in units for segment in self._judge_unit(unit, target, inside=True)]
        if _decided(segments):
            return segments, [], native
        whole: Unit = []
        for unit in units:
            extend(whole, unit)
        segments = self._judge_unit(whole, target, inside=False) if whole else []
        return segments, [] if _decided(segments) else whole, native

    def _judge_unit(self, unit: Unit, target: Target, inside: bool) -> list[Segment]:
        """Judge one sentence: its main script, and foreign runs in it that are long enough to be
        sentences."""
        if len(unit) == 1:
            return self._judge_run(unit[0], target, inside)
        amounts = _amounts(unit)
        total = sum(amounts.values())
        native = {group: amount for group, amount in amounts.items() if group in target.groups}
        if native and sum(native.values()) >= NATIVE_SHARE * total:
            main = _largest(native)
        elif amounts:
            main = _largest(amounts)
        else:
            return []
        foreign, borrowed = _foreign(unit, main, self.central)
        segments = [
            (
                self._identifier.identify(run, target, inside=_common(run, self.central) < MIN_COMMON),
                run.letters,
            )
            for run in foreign
        ]
        if borrowed:
            segments.append((UNDETERMINED, borrowed))
        return [*self._judge_run(joined(unit, main), target, inside), *segments]

    def _foreign_language(self, run: Run, target: Target) -> str:
        return self._identifier.identify(run, target, inside=_common(run, self.central) < MIN_COMMON)

    def _judge_run(self, run: Run, target: Target, inside: bool) -> list[Segment]:
        """Judge words of one script; a sentence partly in the central language has two segments."""
        own = self._identifier.identify(run, target, inside)
        language = target.language
        if (
            not self._identifier.helped
            or language == self.central
            or own not in (language, self.central, UNDETERMINED)
        ):
            return [(own, run.letters)]
        if run.group not in target.groups or len(run.words) > MAX_PIECE:
            return [(own, run.letters)]
        if len(stray_words(run.words, language, self.central)) < MIN_COMMON:
            return [(own, run.letters)]
        if own == self.central and not only(run.words, language, self.central):
            return self._with_a_stretch(run, target)
        parts = part(run.words, language, self.central, self.detector)
        if parts.mixed and (parts.own or own != language):
            return [(language, parts.own), (self.central, parts.other)]
        return [(own, run.letters)]

    def _with_a_stretch(self, run: Run, target: Target) -> list[Segment]:
        """Judge a sentence in the central language: words in a row of it may be in the language asked for."""
        words = uncommon_stretch(run.words, self.central)
        letters = float(sum(map(len, words)))
        if len(words) >= MIN_WORDS and MIN_SHARE * run.letters <= letters < run.letters:
            pair = tuple(sorted({target.language, self.central}))
            code, share = self.detector.best(" ".join(words), pair)
            if code == target.language and share >= MIN_CONFIDENCE_INSIDE:
                return [(code, letters), (self.central, run.letters - letters)]
        return [(self.central, run.letters)]

    def identify_line(self, line: str, language: str, threshold: float) -> str:
        """Return the language of a whole line by its main script and the detector's first choice.

        No abstention but one: "unknown" where the detector's share is not above `threshold`, or nothing is
        there to judge. For protocols that have their own rules of what to judge.
        """
        target = self.target(language)
        unit = runs_of(line, NO_PROMPT)
        if not unit:
            return "unknown"
        own = joined(unit, _largest(_amounts(unit)))
        candidates = target.candidates.get(own.group, ())
        if own.group == "CJK":
            code = self._identifier.identify(own, target, inside=False)
            return code if code != UNDETERMINED else "ja" if kana_in(own) else "zh"
        if len(candidates) < 2:
            return self._identifier.identify(own, target, inside=False)
        code, confidence = self.detector.best(" ".join(own.words)[:MAX_PIECE], candidates)
        return code if confidence > threshold else "unknown"


def _decided(segments: Sequence[Segment]) -> bool:
    if len(segments) == 1:  # as nearly every line has
        return segments[0][0] != UNDETERMINED
    return any(code != UNDETERMINED for code, _ in segments)


def _foreign(unit: Unit, main: str, central: str) -> tuple[list[Run], float]:
    """Return the runs of other scripts that are text, and the letters of those that are borrowed terms."""
    others = [run for run in unit if run.group != main]
    sentences = [run for run in others if is_sentence(run)]
    borrowed = [run for run in others if run not in sentences]
    phrases = [run for run in borrowed if (_common(run, central) >= MIN_COMMON or _phrase(run, central))]
    if sum(len(run.words) for run in phrases) >= SENTENCE_WORDS:
        whole = Run(phrases[0].group, [], [], 0.0)
        for run in phrases:
            if run.group == whole.group:
                whole.extend(run)
        sentences.append(whole)
        borrowed = [run for run in borrowed if run not in phrases]
    return sentences, sum(run.letters for run in borrowed)


def _phrase(run: Run, central: str) -> bool:
    return len(run.words) > 1 and _common(run, central) > 0


def _common(run: Run, central: str) -> int:
    small = [word for at, word in enumerate(run.words) if word.islower() and not titled(run.words, at)]
    return votes(small).get(central, 0)


def _amounts(unit: Unit) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for run in unit:
        amounts[run.group] = amounts.get(run.group, 0.0) + run.letters
    return amounts


def _largest(amounts: Mapping[str, float]) -> str:
    return max(sorted(amounts), key=lambda key: amounts[key])


@lru_cache(maxsize=4096)
def _read_prompt(prompt: str | None) -> Prompt:
    return read_prompt(prompt)


@lru_cache(maxsize=64)
def get_judge(
    central: str = "en", candidates: tuple[str, ...] = DEFAULT_LANGUAGES, detector: str = "lingua"
) -> Judge:
    """Return the judge of these settings, made once (loading models takes a moment)."""
    return Judge(central, candidates, detector)


def judge_texts(
    texts: Sequence[str | None],
    languages: str | Sequence[str],
    prompts: Sequence[str | None] | None = None,
    *,
    central: str = "en",
    candidates: Iterable[str] | None = None,
    detector: str = "lingua",
) -> list[Verdict]:
    """Judge responses: in which language is each, seen from the one asked for.

    `languages` is one code for all or one per text, of any code system; `prompts`, if given, the prompts
    answered (their names and quotations are set aside). `candidates` are the languages the detector chooses
    among, by default those in `languages` and the twelve of `DEFAULT_LANGUAGES`. Raises `UserError` for
    unknown codes and lists of unequal length.
    """
    asked = [languages] * len(texts) if isinstance(languages, str) else list(languages)
    given = [None] * len(texts) if prompts is None else list(prompts)
    if not len(texts) == len(asked) == len(given):
        raise UserError(
            f"{len(texts)} texts need as many languages ({len(asked)} given) and prompts ({len(given)} given)"
        )
    closed_set = _all_asked(asked, detector) if candidates is None else tuple(candidates)
    judge = get_judge(central, closed_set, detector)
    for language in set(asked):
        judge.target(language)
    return [judge.judge(*each) for each in zip(texts, asked, given, strict=True)]


def _all_asked(asked: Iterable[str], detector: str) -> tuple[str, ...]:
    """Return the twelve languages and those asked for, but for what the detector does not know."""
    codes = {normalise_code(language) for language in asked}
    known = codes.difference(get_detector(detector).unsupported(sorted(codes)))
    return tuple(sorted({*DEFAULT_LANGUAGES, *known}))


def verdict_metrics(verdict: Verdict) -> dict[str, float | str]:
    """Return a verdict as the per-response metrics of lm_eval: 0.0 or 1.0 each, and the language answered
    in.

    `foreign_words` is 1 where a word of another language stands in a line on target;
    `on_target`, `central`, `other` and `undetermined` sum to 1; `off_target` is central + other; `empty`
    responses are also `undetermined`.
    """
    metrics: dict[str, float | str] = {name: float(verdict.outcome == name) for name in OUTCOMES}
    metrics["off_target"] = float(verdict.outcome in ("central", "other"))
    metrics["empty"] = float(verdict.empty)
    metrics["foreign_words"] = float(bool(verdict.foreign))
    metrics["answered_in"] = verdict.answered_in
    return metrics
