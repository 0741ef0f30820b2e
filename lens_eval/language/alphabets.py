"""Letters that one of two near languages has and the other lacks: Slovak has no `ů`, Russian no `і`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_CYRILLIC = "абвгдежзклмнопрстуфхцчш"
_RUSSIAN = _CYRILLIC + "ёийщъыьэюя"
_ARABIC = "ءآأؤإئابتثجحخدذرزسشصضطظعغفقلمنهو"

# Letters beyond those that all languages of a script share, in small letters, by code.
LETTERS: dict[str, frozenset[str]] = {
    code: frozenset(letters)
    for code, letters in {
        "es": "áéíñóúü", "pt": "ãáàâçéêíóôõú", "gl": "áéíñóúüï", "ca": "àçèéíïòóúü", "it": "àèéìîòù",
        "fr": "àâæçèéêëîïôœùûü", "de": "äöüß", "nl": "ëïéèöü", "lb": "äéëöü", "af": "êëéèîïôöû",
        "cs": "áčďéěíňóřšťúůýž", "sk": "áäčďéíĺľňóôŕšťúýž", "pl": "ąćęłńóśźż", "sl": "čšž",
        "hr": "čćđšž", "bs": "čćđšž", "sr-Latn": "čćđšž", "da": "æøåé", "nb": "æøåéòô", "nn": "æøåéòô",
        "sv": "äöåé",
        "ru": _RUSSIAN, "uk": _CYRILLIC + "ґєиіїйщьюя",
        "be": _CYRILLIC + "ёійўыьэюя", "bg": _CYRILLIC + "ийщъьюя",
        "mk": _CYRILLIC + "ѓѕијљњќџѐѝ", "sr": _CYRILLIC + "ђијљњћџ", "kk": _RUSSIAN + "әғқңөұүһі",
        "ky": _RUSSIAN + "ңөү", "tt": _RUSSIAN + "әөүҗңһ", "ba": _RUSSIAN + "әғҙҡңөҫүһ",
        "ar": _ARABIC + "ةكىي", "fa": _ARABIC + "پچژگکی", "ur": _ARABIC + "ٹپچڈڑژکگںھہۂۃیےۓ",
        "ps": _ARABIC + "ټپځڅچډړږژښکګڼيیېۍئ", "ckb": "ئابپتجچحخدرڕزژسشعغفڤقکگلڵمنوۆهەیێ",
        "sd": _ARABIC + "ٻپڀٽٿٺٹڄڃچڇڌڊڏڍڙڦڪگڱڳڻھيک", "ug": "ئابپتجچخدرزژسشغفقكگڭلمنھوۇۆۈۋېەىي",
        "tr": "çğıöşü", "az": "çəğıöşü", "tk": "äçňöşüýž", "et": "äõöüšž", "fi": "äöåšž",
        "lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž",
    }.items()
}  # fmt: skip

# Letters that hardly any sentence of a language is without, and how many in a hundred they are.
_EVERYWHERE: dict[str, tuple[str, float]] = {
    "uk": ("іїє", 6), "be": ("іў", 6), "sr": ("јљњћђџ", 6), "mk": ("јљњѓќѕ", 4),
    "fa": ("ی", 7), "ur": ("ےہیں", 15),
    "ps": ("ېۍښړ", 4), "ckb": ("ەێۆ", 10), "ug": ("ەېۇۈ", 10), "sd": ("۾آجھڪ", 5),
    "pt": ("ãçõ", 2), "cs": ("ěřů", 3.5),
    "da": ("æø", 2), "nb": ("æø", 1.5), "nn": ("æø", 1.5), "sv": ("äö", 3), "az": ("ə", 8), "lv": ("āīū", 6),
    "lt": ("ėįųąšž", 5), "tk": ("äýňž", 5), "ky": ("өүң", 3), "kk": ("ұқғәі", 8),
    "ba": ("әҙҡғ", 8), "tt": ("әү", 8),
    "it": ("àèìòù", 1), "ca": ("àèòç", 1.5), "gl": ("ñ", 0.3),
}  # fmt: skip
EXPECTED = 3.5


@lru_cache(maxsize=1024)
def _missed(code: str, other: str) -> tuple[frozenset[str], float]:
    letters, share = _EVERYWHERE.get(code, ("", 0.0))
    alone = frozenset(letters) - LETTERS.get(other, frozenset())
    return alone, share / 100 if alone == frozenset(letters) else 0.0


def lacks_letters_of(text: str, code: str, other: str) -> bool:
    """Return whether a text has none of the letters that one of two languages has in every sentence."""
    letters, share = _missed(code, other)
    return bool(letters) and share * len(text) >= EXPECTED and letters.isdisjoint(text)


@lru_cache(maxsize=1024)
def _alone(code: str, other: str) -> frozenset[str]:
    """Letters of one language that another does not have; none where an alphabet is not known."""
    if code not in LETTERS or other not in LETTERS:
        return frozenset()
    return LETTERS[code] - LETTERS[other]


def words_with_letters_of(words: Sequence[str], code: str, other: str) -> int:
    """Return how many words, but for names, have a letter that one language has and the other has not."""
    letters = _alone(code, other)
    if not letters or letters.isdisjoint("".join(words)):
        return 0
    return sum(not letters.isdisjoint(word) for word in words if not word[0].isupper())
