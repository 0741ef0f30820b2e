"""The language of words of one script: common words first, then a detector, then a look at the neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lens_eval.base.errors import UserError
from lens_eval.language.alphabets import lacks_letters_of, words_with_letters_of
from lens_eval.language.common_words import leader, titled, votes
from lens_eval.language.detectors import Detector, known_by
from lens_eval.language.languages import LANGUAGES, OTHER_SCRIPTS, RARE, chinese_script, near, normalise_code
from lens_eval.language.scripts import CASED, chinese_form, han_evidence, han_of, script_group
from lens_eval.language.sentences import MAX_PIECE, Run

UNDETERMINED = "undetermined"
# All lengths are in letters of an alphabet; a Han character counts for several (LETTERS_PER_CHARACTER).
# Between languages of one script: the detector is not asked about fewer letters than this, and the fewer
# there are, the larger a share of the probability its first choice needs (`confidence_needed`). Chosen on
# MGSM questions and XNLI hypotheses; docs/metrics.md has the measurement.
MIN_LETTERS = 10
# Common words that confirm the first choice of an unsure detector, if no other candidate has as many.
CONFIRMING_WORDS = 3
# Names may confirm what at least so many letters of other words say.
MIN_PLAIN_LETTERS = 4
# A sentence inside a line of several is only called off-target on clear evidence: many sentences, many
# chances to err.
MIN_CONFIDENCE_INSIDE = 0.95
# Where one candidate alone uses a script, the script decides; Latin letters are also units, formulas and
# names.
MIN_LETTERS_BY_SCRIPT = 2
MIN_LETTERS_BY_LATIN_SCRIPT = 10
# Han characters without any kana from which on a text cannot well be Japanese.
MAX_JAPANESE_WITHOUT_KANA = 20
# Below this share of kana, characters that only Chinese has make a sentence Chinese.
KANA_OF_JAPANESE = 0.3
# A near language is named, and a language outside the candidates, from so many letters and such a share of
# the probability on.
NEAR_LETTERS, NEAR_FLOOR = 20, 0.8
OPEN_LETTERS, OPEN_FLOOR, OPEN_ALONE = 40, 0.9, 0.97
# Text in the Latin alphabet that stands for another script, with so few words.
ROMANISED_LETTERS = 20
# What a detector knows under other names, and what no text tells it from.
_STAND_INS = {"sr-Latn": ("hr",)}
_ALIKE = frozenset({"bs", "hr", "sr"})


@dataclass(frozen=True)
class Target:
    """What is asked of one response: language, the Chinese script if that matters, candidates by script
    group. `blind` are the groups in which the detector does not know the language."""

    language: str
    chinese: str | None
    groups: frozenset[str]
    candidates: Mapping[str, tuple[str, ...]]
    blind: frozenset[str] = frozenset()


def groups_of(language: str) -> frozenset[str]:
    """Return the script groups a language is recognised by."""
    if language == "ko":  # Han characters alone are not Korean today
        return frozenset({"Hang"})
    return frozenset(map(script_group, LANGUAGES[language].scripts))


def _usual(code: str, group: str) -> bool:
    """Whether a language has this script group as a usual one, in which detectors know it."""
    return group not in OTHER_SCRIPTS.get(code, ()) and not (code == "sr" and group == "Latn")


class Identifier:
    """Names the language of runs of words with one detector."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        # Only a detector that has a quick look of its own is helped by words and neighbours: the verdicts of
        # another that a user names are its own.
        self._glance = getattr(detector, "glance", None)
        self._open: dict[str, tuple[str, ...]] = {}
        # What the detector said of this response's sentences: models in a loop repeat them without end.
        self._said: dict[tuple[str, tuple[str, ...]], tuple[str, float]] = {}

    @property
    def helped(self) -> bool:
        """Whether common words, neighbours and a look over all languages help the detector."""
        return self._glance is not None

    def forget(self) -> None:
        """Start on another response."""
        self._said = {}

    def target(self, language: str, among: Iterable[str], split_chinese: bool) -> Target:
        """Return what is asked; raises `UserError` if responses in that language cannot be judged."""
        code = normalise_code(language)
        by_group: dict[str, list[str]] = {}
        blind = set()
        for candidate in sorted({*among, code}):
            for group in groups_of(candidate):
                if _usual(candidate, group):
                    by_group.setdefault(group, []).append(candidate)
                elif stand_ins := _STAND_INS.get(f"{candidate}-{group}"):
                    if not self.detector.unsupported(stand_ins):
                        by_group.setdefault(group, []).extend(stand_ins)
                elif candidate == code:
                    blind.add(group)
        _, _, script = language.strip().replace("_", "-").partition("-")
        if script in blind:
            raise UserError(
                f"{self.detector.name} does not know {LANGUAGES[code].name} in the script {script}; ask for "
                f"{code}, in its usual script, or name a fastText model that knows it (GlotLID): "
                "--detector fasttext:FILE"
            )
        for group, codes in by_group.items():
            if group == "Latn" and "hr" in codes and "bs" in codes:
                codes.remove("bs")  # which takes half of its share
            unknown = self.detector.unsupported(codes) if len(codes) > 1 and group != "CJK" else []
            if unknown:
                raise UserError(self._unknown(unknown, codes))
        chinese = chinese_script(language) if split_chinese and code == "zh" else None
        candidates = {group: tuple(sorted(set(codes))) for group, codes in by_group.items()}
        return Target(code, chinese, groups_of(code), candidates, frozenset(blind))

    def _unknown(self, unknown: Sequence[str], codes: Sequence[str]) -> str:
        others = ", ".join(c for c in codes if c not in unknown) or "each other"
        named = ", ".join(f"{code} ({LANGUAGES[code].name})" for code in unknown)
        return (
            f"{self.detector.name} does not know {named}, written in the same script as {others}; leave it "
            f"out of the candidates or name a fastText model that knows it ({known_by(unknown)}): "
            "--detector fasttext:FILE"
        )

    def identify(self, run: Run, target: Target, inside: bool) -> str:
        """Return the language of words of one script group, or "undetermined".

        A romanised language has the script behind its code (`hi-Latn`); a script that nobody can name a
        language of is returned as its ISO 15924 code.
        """
        if run.group == "CJK":
            return _chinese_or_japanese(run, target)
        candidates = target.candidates.get(run.group, ())
        shared = run.group == "Latn" or (len(candidates) > 1 and run.group in CASED)
        if shared and not any(word.islower() and len(word) > 1 for word in run.words):
            return UNDETERMINED  # names or a title, which look alike in every language
        counts = votes(run.words)
        code = self._by_words(run, counts, target)
        if not code:
            if run.group in target.blind:
                return UNDETERMINED
            if not candidates:
                return self._without_candidates(run)
            code = self._among(run, candidates, target, inside)
            if code == UNDETERMINED:
                code = self._beyond(run, counts, target) if self._glance else code
            else:
                code = self._checked(code, run, counts, target)
        return target.language if code in _ALIKE and target.language in _ALIKE else code

    def _by_words(self, run: Run, counts: Mapping[str, int], target: Target) -> str:
        """Return the language that common words name, "undetermined" between near ones, else ""."""
        first = leader(counts, run.words, _none)
        if first and first != target.language and run.group in CASED:
            words = [word for at, word in enumerate(run.words) if not _in_a_name(run.words, at)]
            first = leader(votes(words), run.words, _none)  # `The Catcher in the Rye` is a title
        if first:
            return _code_of(first, run.group, target) if self._glance or "-" in first else ""
        if not self._glance:
            return ""
        # Of near languages one is named by its neighbours; of others, only candidates are rivals.
        first = leader(counts, run.words, near)
        if first and target.language != first and target.language not in near(first):
            return _code_of(first, run.group, target)
        candidates = target.candidates.get(run.group, ())
        first = leader(counts, run.words, lambda code: near(code) | (counts.keys() - set(candidates)))
        if first == target.language and first in candidates:
            return self._among_neighbours(first, run, counts)
        return ""

    def _among(self, run: Run, candidates: tuple[str, ...], target: Target, inside: bool) -> str:
        if len(candidates) == 1:
            needed = MIN_LETTERS_BY_LATIN_SCRIPT if run.group == "Latn" else MIN_LETTERS_BY_SCRIPT
            return candidates[0] if run.letters >= needed else UNDETERMINED
        code, sure = self._detect(run.plain, candidates, target, inside)
        if not sure and len(run.plain) < len(run.words) and sum(map(len, run.plain)) >= MIN_PLAIN_LETTERS:
            # Names may confirm what the other words say, never say it for them.
            with_names, sure = self._detect(run.words, candidates, target, inside)
            sure = sure and with_names == code
        return code if sure or self._confirmed(code, run, candidates) else UNDETERMINED

    def _confirmed(self, code: str, run: Run, candidates: tuple[str, ...]) -> bool:
        """Whether common words of a short text name what the detector, unsure of it, puts first."""
        if not self._glance or run.letters < MIN_LETTERS:
            return False
        counts = votes(run.plain)
        others = max((counts.get(each, 0) for each in candidates if each != code), default=0)
        return counts.get(code, 0) >= CONFIRMING_WORDS and counts[code] > others

    def _detect(
        self, words: Sequence[str], candidates: tuple[str, ...], target: Target, inside: bool
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

    def _checked(self, code: str, run: Run, counts: Mapping[str, int], target: Target) -> str:
        """Look beyond the candidates: at romanised text, near languages, and all that the detector knows."""
        own = counts.get(code, 0)
        if not self._glance:
            return code
        if run.group == "Latn" and "Latn" not in target.groups:
            roman = counts.get(f"{target.language}-Latn", 0)
            if roman >= 2 and roman > own:
                return f"{target.language}-Latn"
            if not own and run.letters >= ROMANISED_LETTERS and len(run.plain) > 2:
                found, share = self._look(run, self._known(run.group))
                return found if share >= OPEN_FLOOR and counts.get(found) else run.group
        # One or two common words are shared by many languages: `na`, `za`.
        if (own < 2 or max(counts.values()) > own) and run.letters >= OPEN_LETTERS:
            found, share = self._look(run, self._known(run.group))
            beyond = found != code and found not in near(code) and not {found, code} <= _ALIKE
            if beyond and share >= OPEN_FLOOR and (counts.get(found, 0) > own or not own):
                return found if share >= OPEN_ALONE or counts.get(found) else UNDETERMINED
            if beyond and not own and code != target.language:
                return UNDETERMINED  # no word speaks for it, and the trigrams for another
        return self._among_neighbours(code, run, counts)

    def _beyond(self, run: Run, counts: Mapping[str, int], target: Target) -> str:
        """Return what text of none of the candidates for sure is in, or "undetermined"."""
        candidates = target.candidates.get(run.group, ())
        own = max((counts.get(each, 0) for each in candidates), default=0)
        roman = f"{target.language}-Latn"
        if run.group == "Latn" and "Latn" not in target.groups and counts.get(roman, 0) >= max(own, 3):
            return roman
        if run.letters < OPEN_LETTERS or max(counts.values(), default=0) <= own:
            return UNDETERMINED
        found, share = self._look(run, self._known(run.group))
        if found in candidates or found in near(target.language) or share < OPEN_FLOOR:
            return UNDETERMINED
        return found if counts.get(found, 0) >= max(own + 1, 2) else UNDETERMINED

    def _among_neighbours(self, code: str, run: Run, counts: Mapping[str, int]) -> str:
        """Return a language, or the near one of it that the text is rather in, or "undetermined"."""
        neighbours = sorted(near(code) - _ALIKE if code in _ALIKE else near(code))
        if run.letters < NEAR_LETTERS or not neighbours:
            return code
        own = max(counts.get(each, 0) for each in (_ALIKE if code in _ALIKE else (code,)))
        # By how much more words and letters speak for a near language than for this one.
        lead = {
            each: counts.get(each, 0)
            - own
            + words_with_letters_of(run.words, each, code)
            - words_with_letters_of(run.words, code, each)
            for each in neighbours
        }
        rival = max(neighbours, key=lead.__getitem__)
        if lead[rival] <= -2:
            return code
        text = "".join(run.words)
        neighbours = [each for each in neighbours if not lacks_letters_of(text, each, code)]
        rival = max(neighbours, key=lead.__getitem__, default="")
        if not rival or lead[rival] <= -2:
            return code
        known_as = "hr" if code in _ALIKE and run.group == "Latn" else code
        in_reach = tuple(c for c in self._known(run.group) if c == known_as or c in neighbours)
        found, share = self._look(run, in_reach)
        if len(in_reach) > 1 and found != known_as:
            if share >= NEAR_FLOOR and lead[found] > 0:
                return found
            if run.letters >= OPEN_LETTERS:
                return UNDETERMINED if lead[found] >= 0 else code
        if lead[rival] == 1 and rival not in in_reach and run.letters >= OPEN_LETTERS:
            return UNDETERMINED
        return rival if lead[rival] >= 2 else code

    def _without_candidates(self, run: Run) -> str:
        if run.letters < MIN_LETTERS_BY_SCRIPT:
            return UNDETERMINED
        known = self._known(run.group)
        if self._glance and len(known) > 1 and run.letters >= NEAR_LETTERS:
            found, share = self._look(run, known)
            if share >= OPEN_FLOOR:
                return found
        return known[0] if len(known) == 1 else _name_script(run.group)

    def _look(self, run: Run, among: tuple[str, ...]) -> tuple[str, float]:
        if len(among) < 2 or not self._glance:
            return (among[0] if among else ""), 0.0
        text = " ".join(run.plain or run.words)[:MAX_PIECE]
        if (text, among) not in self._said:
            self._said[text, among] = self._glance(text, among)
        return self._said[text, among]

    def _known(self, group: str) -> tuple[str, ...]:
        """Return all languages of a script group that the detector knows in it."""
        if group not in self._open:
            users = [code for code in LANGUAGES if group in groups_of(code) and _usual(code, group)]
            users = [code for code in users if code != "bs"]  # which takes half of the share of hr
            unknown = set(self.detector.unsupported(users))
            self._open[group] = tuple(sorted(code for code in users if code not in unknown))
        return self._open[group]


def _none(code: str) -> frozenset[str]:
    return frozenset()


def _in_a_name(words: Sequence[str], at: int) -> bool:
    """Whether a word is part of a name or title inside a sentence."""
    return (at > 0 and not words[at].islower()) or titled(words, at)


def confidence_needed(letters: float) -> float:
    """Return the share of the probability the first choice needs: .8 at 10 letters, .5 from 20 on."""
    return max(0.5, 1.1 - 0.03 * letters)


def _code_of(variety: str, group: str, target: Target) -> str:
    """Return the language of a variety; of one that is romanised the variety itself."""
    if variety in _ALIKE and target.language in _ALIKE:
        return target.language
    code, _, script = variety.partition("-")
    return variety if script and script not in LANGUAGES[code].scripts else code


def _name_script(script: str) -> str:
    """Return the one known language that uses a script no candidate uses, else the script."""
    users = [each.code for each in LANGUAGES.values() if script == each.scripts[0] and each.code not in RARE]
    return users[0] if len(users) == 1 else script


def kana_in(run: Run) -> int:
    """Return how many kana a run of Han characters and kana has."""
    return sum(map(len, run.words)) - len(han_of("".join(run.words)))


def _chinese_or_japanese(run: Run, target: Target) -> str:
    han = han_of("".join(run.words))
    kana = kana_in(run)
    chinese, japanese = han_evidence(han[:MAX_PIECE]) if han else (0, 0)
    if target.language == "zh" and chinese > japanese and kana < KANA_OF_JAPANESE * (kana + len(han)):
        kana = 0  # a Japanese word in a Chinese sentence
    if kana and kana >= 0.1 * (kana + len(han)):
        return "ja" if run.letters >= MIN_LETTERS_BY_SCRIPT + 1 else UNDETERMINED
    if len(han) < 2:
        return UNDETERMINED
    if japanese > chinese:
        return "ja"
    unsure = chinese == japanese and len(han) < MAX_JAPANESE_WITHOUT_KANA
    if unsure and "ja" in target.candidates.get("CJK", ()):
        return UNDETERMINED
    form = chinese_form(han[:MAX_PIECE]) if target.chinese else None
    return f"zh-{form}" if form and form != target.chinese else "zh"
