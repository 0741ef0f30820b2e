"""The off-target metric: in which language is a response written, and is it the one that was asked for.

A line is cut into sentences, each sentence is judged, script first, then by a detector over a closed set of
candidate languages; what is too short to tell stays undetermined. A response is on target when every judged
line is. `docs/metrics.md` has the definition in full and what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lens_eval.base.errors import UserError
from lens_eval.language.detectors import Detector, get_detector
from lens_eval.language.languages import DEFAULT_LANGUAGES, LANGUAGES, chinese_script, normalise_code
from lens_eval.language.reasoning import read_reasoning
from lens_eval.language.scripts import (
    CASED,
    chinese_form,
    han_evidence,
    han_of,
    script_group,
)
from lens_eval.language.sentences import (
    MAX_PIECE,
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
    read_prompt,
    readable,
    set_aside,
    without_list_mark,
    without_quotations,
)

OUTCOMES = ("on_target", "central", "other", "undetermined")
UNDETERMINED = "undetermined"
EMPTY = "empty"

# All lengths are in letters of an alphabet; a Han character counts for several (LETTERS_PER_CHARACTER).
# Between languages of one script: the detector is not asked about fewer letters than this, and the fewer
# there are, the larger a share of the probability its first choice needs (`confidence_needed`). Chosen on
# MGSM questions and XNLI hypotheses; docs/metrics.md has the measurement.
MIN_LETTERS = 10
# Names may confirm what at least so many letters of other words say.
MIN_PLAIN_LETTERS = 4
# A sentence inside a line of several is only called off-target on clear evidence: many sentences, many
# chances to err.
MIN_CONFIDENCE_INSIDE = 0.95
# Where one candidate alone uses a script, the script decides; Latin letters are also units, formulas and
# names.
MIN_LETTERS_BY_SCRIPT = 2
MIN_LETTERS_BY_LATIN_SCRIPT = 10
# The share of a sentence its own script needs for the rest to count as borrowed.
NATIVE_SHARE = 0.2
# Han characters without any kana from which on a text cannot well be Japanese.
MAX_JAPANESE_WITHOUT_KANA = 20


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
    candidate and no single known language uses, "undetermined" or "empty"; `letters` counts the letters of
    each outcome (a Han character counts for several); `thinking` is the outcome of the reasoning, None
    without one; `lines` are the lines with any text, in order.
    """

    language: str
    outcome: str
    empty: bool
    answered_in: str
    lines: tuple[Line, ...]
    letters: Mapping[str, float]
    thinking: str | None = None

    @property
    def characters(self) -> dict[str, float]:
        """Each outcome's share of the letters; sums to 1."""
        total = sum(self.letters.values())
        if not total:
            return {outcome: float(outcome == UNDETERMINED) for outcome in OUTCOMES}
        return {outcome: amount / total for outcome, amount in self.letters.items()}


@dataclass(frozen=True)
class _Target:
    """What is asked of one response: language, the Chinese script if that matters, candidates by script
    group."""

    language: str
    chinese: str | None
    groups: frozenset[str]
    candidates: Mapping[str, tuple[str, ...]]


def _groups(language: str) -> frozenset[str]:
    """Return the script groups a language is recognised by."""
    scripts = LANGUAGES[language].scripts
    if language == "ko":  # Han characters alone are not Korean today
        return frozenset({"Hang"})
    return frozenset(map(script_group, scripts))


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
        self._targets: dict[str, _Target] = {}
        # What the detector said of this response's sentences: models in a loop repeat them without end.
        self._said: dict[tuple[str, tuple[str, ...]], tuple[str, float]] = {}
        self.target(self.central)

    def describe(self) -> dict[str, object]:
        """Return what another run needs to give the same verdicts: for results files."""
        return {
            "detector": {"name": self.detector.name, "version": self.detector.version},
            "central": self.central,
            "candidates": list(self.candidates),
            "split_chinese": self.split_chinese,
        }

    def target(self, language: str) -> _Target:
        """Check a language asked for; raises `UserError` if its responses cannot be judged."""
        if language not in self._targets:
            self._targets[language] = self._make_target(language)
        return self._targets[language]

    def _make_target(self, language: str) -> _Target:
        code = normalise_code(language)
        by_group: dict[str, list[str]] = {}
        for candidate in sorted({*self.candidates, code}):
            for group in _groups(candidate):
                by_group.setdefault(group, []).append(candidate)
        for group, codes in by_group.items():
            unknown = self.detector.unsupported(codes) if len(codes) > 1 and group != "CJK" else []
            if unknown:
                others = ", ".join(c for c in codes if c not in unknown) or "each other"
                raise UserError(
                    f"{self.detector.name} does not know {', '.join(unknown)}, written in the same script as "
                    f"{others}; leave it out of the candidates or name a fastText model that knows it "
                    "(GlotLID): --detector fasttext:FILE"
                )
        chinese = chinese_script(language) if self.split_chinese and code == "zh" else None
        candidates = {group: tuple(codes) for group, codes in by_group.items()}
        return _Target(code, chinese, _groups(code), candidates)

    def judge(self, text: str | None, language: str, prompt: str | None = None) -> Verdict:
        """Judge one response (None counts as empty) to a prompt that asked for an answer in `language`."""
        target = self.target(language)
        given = _read_prompt(prompt)
        self._said = {}
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
        )

    def _judge_part(self, text: str, target: _Target, prompt: Prompt) -> Verdict:
        if not text or text.isspace():
            return Verdict(target.language, UNDETERMINED, True, EMPTY, (), self._letters((), target))
        text = without_quotations(set_aside(text), prompt)
        lines: list[Line] = []
        short: Unit = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line or line.isspace():
                continue
            segments, unsure = self._judge_line(line, target, prompt)
            if unsure:
                extend(short, unsure)
            answered_in, outcome = self._sum_up(segments, target)
            lines.append(Line(number, outcome if segments else "set_aside", answered_in, tuple(segments)))
        segments = [segment for line in lines for segment in line.segments]
        judged = [line for line in lines if line.outcome not in (UNDETERMINED, "set_aside")]
        if not judged and len(lines) > 1:
            # Many lines too short to tell apart, a list of words for instance: judge them as one.
            segments = self._judge_unit(short, target, inside=False) or segments
        answered_in, outcome = self._sum_up(segments, target)
        return Verdict(
            target.language, outcome, False, answered_in, tuple(lines), self._letters(segments, target)
        )

    def _outcome(self, answered_in: str, target: _Target) -> str:
        if answered_in == UNDETERMINED:
            return UNDETERMINED
        if answered_in == target.language:
            return "on_target"
        return "central" if answered_in == self.central else "other"

    def _sum_up(self, segments: Sequence[Segment], target: _Target) -> tuple[str, str]:
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

    def _letters(self, segments: Sequence[Segment], target: _Target) -> dict[str, float]:
        letters = dict.fromkeys(OUTCOMES, 0.0)
        for code, amount in segments:
            letters[self._outcome(code, target)] += amount
        return letters

    def _judge_line(self, line: str, target: _Target, prompt: Prompt) -> tuple[list[Segment], Unit]:
        """Return the segments of a line, and its words if none of them could be judged."""
        units = [] if is_code(line) else units_of(without_list_mark(line), prompt)
        if len(units) == 1:
            segments = self._judge_unit(units[0], target, inside=False)
            return segments, [] if _decided(segments) else units[0]
        segments = [segment for unit in units for segment in self._judge_unit(unit, target, inside=True)]
        if _decided(segments):
            return segments, []
        whole: Unit = []
        for unit in units:
            extend(whole, unit)
        segments = self._judge_unit(whole, target, inside=False) if whole else []
        return segments, [] if _decided(segments) else whole

    def _judge_unit(self, unit: Unit, target: _Target, inside: bool) -> list[Segment]:
        """Judge one sentence: its main script, and foreign runs in it that are long enough to be
        sentences."""
        if len(unit) == 1:
            return [(self._identify(unit[0], target, inside), unit[0].letters)]
        amounts = _amounts(unit)
        total = sum(amounts.values())
        native = {group: amount for group, amount in amounts.items() if group in target.groups}
        if native and sum(native.values()) >= NATIVE_SHARE * total:
            main = _largest(native)
        elif amounts:
            main = _largest(amounts)
        else:
            return []
        foreign = [run for run in unit if run.group != main and is_sentence(run)]
        segments = [(self._identify(run, target, inside=True), run.letters) for run in foreign]
        rest = total - sum(run.letters for run in foreign)
        own = self._identify(joined(unit, main), target, inside)
        return [(own, rest), *segments]

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
            code = self._identify(own, target, inside=False)
            return code if code != UNDETERMINED else "ja" if _kana_in(own) else "zh"
        if len(candidates) < 2:
            return self._identify(own, target, inside=False)
        code, confidence = self.detector.best(" ".join(own.words)[:MAX_PIECE], candidates)
        return code if confidence > threshold else "unknown"

    def _identify(self, run: Run, target: _Target, inside: bool) -> str:
        """Return the language of words of one script group, or "undetermined"."""
        candidates = target.candidates.get(run.group, ())
        if run.group == "CJK":
            return _chinese_or_japanese(run, target)
        if not candidates:
            return _name_script(run.group) if run.letters >= MIN_LETTERS_BY_SCRIPT else UNDETERMINED
        several = len(candidates) > 1
        shared = run.group == "Latn" or (several and run.group in CASED)
        if shared and not any(word.islower() and len(word) > 1 for word in run.words):
            return UNDETERMINED  # names or a title, which look alike in every language
        if not several:
            needed = MIN_LETTERS_BY_LATIN_SCRIPT if run.group == "Latn" else MIN_LETTERS_BY_SCRIPT
            return candidates[0] if run.letters >= needed else UNDETERMINED
        code, sure = self._detect(run.plain, candidates, target, inside)
        if not sure and len(run.plain) < len(run.words) and sum(map(len, run.plain)) >= MIN_PLAIN_LETTERS:
            # Names may confirm what the other words say, never say it for them.
            with_names, sure = self._detect(run.words, candidates, target, inside)
            sure = sure and with_names == code
        return code if sure else UNDETERMINED

    def _detect(
        self, words: Sequence[str], candidates: tuple[str, ...], target: _Target, inside: bool
    ) -> tuple[str, bool]:
        """Return the detector's first choice ("" without any words) and whether it is sure enough."""
        text = " ".join(words)[:MAX_PIECE]
        if not text:
            return "", False
        said = self._said
        if (text, candidates) not in said:
            said[text, candidates] = self.detector.best(text, candidates)
        code, confidence = said[text, candidates]
        letters = sum(map(len, words))
        needed = confidence_needed(letters)
        if inside and code != target.language:
            needed = max(needed, MIN_CONFIDENCE_INSIDE)
        return code, letters >= MIN_LETTERS and confidence >= needed


def confidence_needed(letters: float) -> float:
    """Return the share of the probability the first choice needs: .8 at 10 letters, .5 from 20 on."""
    return max(0.5, 1.1 - 0.03 * letters)


def _decided(segments: Sequence[Segment]) -> bool:
    if len(segments) == 1:  # as nearly every line has
        return segments[0][0] != UNDETERMINED
    return any(code != UNDETERMINED for code, _ in segments)


def _amounts(unit: Unit) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for run in unit:
        amounts[run.group] = amounts.get(run.group, 0.0) + run.letters
    return amounts


def _largest(amounts: Mapping[str, float]) -> str:
    return max(sorted(amounts), key=lambda key: amounts[key])


def _name_script(script: str) -> str:
    """Return the one known language that uses a script no candidate uses, else the script."""
    users = [language.code for language in LANGUAGES.values() if script in language.scripts]
    return users[0] if len(users) == 1 else script


def _kana_in(run: Run) -> int:
    return sum(map(len, run.words)) - len(han_of("".join(run.words)))


def _chinese_or_japanese(run: Run, target: _Target) -> str:
    han = han_of("".join(run.words))
    kana = _kana_in(run)
    if kana and kana >= 0.1 * (kana + len(han)):
        return "ja" if run.letters >= MIN_LETTERS_BY_SCRIPT + 1 else UNDETERMINED
    if len(han) < 2:
        return UNDETERMINED
    chinese, japanese = han_evidence(han[:MAX_PIECE])
    if japanese > chinese:
        return "ja"
    unsure = chinese == japanese and len(han) < MAX_JAPANESE_WITHOUT_KANA
    if unsure and "ja" in target.candidates.get("CJK", ()):
        return UNDETERMINED
    form = chinese_form(han[:MAX_PIECE]) if target.chinese else None
    return f"zh-{form}" if form and form != target.chinese else "zh"


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
    closed_set = DEFAULT_LANGUAGES if candidates is None else tuple(candidates)
    judge = get_judge(central, closed_set, detector)
    for language in set(asked):
        judge.target(language)
    return [judge.judge(*each) for each in zip(texts, asked, given, strict=True)]


def verdict_metrics(verdict: Verdict) -> dict[str, float | str]:
    """Return a verdict as the per-response metrics of lm_eval: 0.0 or 1.0 each, and the language answered
    in.

    `on_target`, `central`, `other` and `undetermined` sum to 1; `off_target` is central + other; `empty`
    responses are also `undetermined`.
    """
    metrics: dict[str, float | str] = {name: float(verdict.outcome == name) for name in OUTCOMES}
    metrics["off_target"] = float(verdict.outcome in ("central", "other"))
    metrics["empty"] = float(verdict.empty)
    metrics["answered_in"] = verdict.answered_in
    return metrics
