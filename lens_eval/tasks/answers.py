"""Numbers out of free text, in any script.

`read_number` returns the number a worked solution ends on, or None where nothing can be read. Nothing here
knows the right answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from lens_eval.language.reasoning import without_reasoning

# Languages that write the decimal mark as a comma (CLDR); every other one writes a full stop.
DECIMAL_COMMA = frozenset(
    re.findall(
        r"\w+",
        "af az be bg bs ca cs da de el es et eu fi fr gl hr ht hu hy id is it ka kk lt lv mk mn nb nl nn pl "
        "pt qu ro ru sk sl sq sr sv tr uk vi",
    )
)
# Languages that group thousands with an ordinary space (no-break and thin spaces group in every language).
SPACE_GROUPS = frozenset(
    re.findall(r"\w+", "be bg cs da es et fi fr hu hy ka kk lt lv nb nn pl pt ru sk sl sq sv uk")
)

# What introduces the final answer. The strong ones decide wherever they stand; the last one wins.
_STRONG_MARKERS = (
    r"####",
    r"<(?:final[_ ]?)?answer>",
    r"\b(?:final |correct |right )?answer(?:'s| is| are| was| would be| should be| will be|:? equals)",
    r"\bfinal (?:answer|result)\s*[:：=]",
    r"\bAntwort (?:lautet|ist|wäre|beträgt)",
    r"\b(?:Ergebnis|Endergebnis) (?:lautet|ist|beträgt)",
    r"\b(?:endgültige Antwort|Endergebnis)\s*:",
    r"\brespuesta(?: final| correcta)? (?:es|sería)",
    r"\brespuesta final\s*:",
    r"\bréponse(?: finale| correcte)? (?:est|serait)",
    r"\bréponse finale\s*:",
    r"\bответ(?: равен| будет| такой)?\s*[—–-]",
    r"\bответ (?:равен|будет|составляет)",
    r"\b(?:окончательный|итоговый) ответ\s*[:—–-]",
    r"\bJibu(?: la mwisho| sahihi)? ni",
    r"\bJibu la mwisho\s*:",
    r"\bla risposta(?: finale)? è",
    r"\ba resposta(?: final)? é",
    r"\bjawaban(?:nya| akhirnya)? (?:adalah|ialah)",
    r"(?:câu trả lời|đáp án|đáp số)(?: cuối cùng)? (?:là|:)",
    r"(?:最终|最後|最终的|正确|正確)?答案(?:就|应该|應該|应当)?(?:是|为|為)\s*[:：]?",
    r"(?:最终|最後的?|最终的)答案\s*[:：]",
    r"(?:最終的な|最終)?(?:答え|解答|回答|答)は",
    r"(?:최종 ?)?(?:정답|답변|답|해답)(?:은|는)",
    r"(?:চূড়ান্ত |সঠিক )?উত্তর(?:টি|টা)? ?(?:হল|হলো|হ'ল|হচ্ছে|হবে)\s*[:ঃ]?",
    r"চূড়ান্ত উত্তর\s*[:ঃ]",
    r"คำตอบ(?:สุดท้าย|ที่ถูกต้อง)?\s*(?:คือ|เป็น|เท่ากับ)",
    r"సమాధానం\s*[:=]?\s*(?=-?[$€£₹]?\s?\d)",
    r"(?:الجواب|الإجابة|الاجابة)(?: النهائية?| الصحيحة?)? (?:هو|هي)\s*:?",
    r"(?:الجواب النهائي|الإجابة النهائية)\s*:",
    r"(?:अंतिम |सही )?उत्तर(?: है)?\s*[:=]?\s*(?=-?[$€£₹]?\s?\d)",
    r"(?:حتمی )?جواب(?: ہے)?\s*[:=]?\s*(?=-?[$€£₹]?\s?\d)",
)
# The weak ones open many a solution ("Answer: first, ..."), so they count only if no number follows their
# sentence.
_WEAK_MARKERS = (
    r"answer|Antwort|Ergebnis|Lösung|respuesta|resultado|réponse|résultat|ответ|jibu|risposta|resposta|jawaban|cevap|"
    r"erantzuna|απάντηση|отговор|答案|答え|解答|回答|答|정답|답|উত্তর|คำตอบ|ตอบ|సమాధానం|الجواب|الإجابة|الاجابة|उत्तर|جواب|"
    r"விடை|பதில்|ഉത്തരം|ಉತ್ತರ|જવાબ|उत्तरः|အဖြေ"
)
_CORRECTIONS = (
    r"\b(?:wait|correction|actually|sorry|i made a (?:mistake|mis-?calculation))\b|"
    r"\blet me (?:recheck|re-check|correct|redo)\b|"
    r"\b(?:Moment|Korrektur|korrigiere|Entschuldigung)\b|\b(?:corrección|espera|perdón|me equivoqué)\b|"
    r"\b(?:correction|attendez|pardon|je me suis trompée?)\b|"
    r"\b(?:исправление|подождите|извините|ошибся|ошиблась)\b|"
    r"\b(?:samahani|marekebisho|ngoja)\b|更正|纠正|等等|抱歉|不对|訂正|すみません|間違え|待って|정정|잠깐|죄송|"
    r"সংশোধন|দুঃখিত|ভুল হয়েছে|"
    r"แก้ไข|ขอโทษ|เดี๋ยวก่อน|సరిదిద్ద|క్షమించ|تصحيح|عفو[اً]|असल में|क्षमा करें"
)
_STRONG = re.compile("|".join(_STRONG_MARKERS), re.IGNORECASE)
_WEAK = re.compile(rf"(?:^|[\n.!?。！？।])\s*(?:[^\W\d_]+ )?(?:{_WEAK_MARKERS})\s*[:：ঃ=]", re.IGNORECASE)
# An answer that is all its line says: what follows on other lines is about something else.
_ALONE = re.compile(
    rf"(?:^|\n)[\s#>-]*(?:[^\W\d_]+ )?(?:{_WEAK_MARKERS})\s*[:：ঃ=](?P<said>[^\n]{{1,60}})(?=\n|$)",
    re.IGNORECASE,
)
_KEY = re.compile(
    rf"[\"'](?:(?:final|correct|numeric|numerical)[_ -]?)?"
    rf"(?:ans|answer|solution|result|value|{_WEAK_MARKERS})[\"']\s*:\s*[\"']?",
    re.IGNORECASE,
)
_NEXT_QUESTION = re.compile(
    r"\n[\s#*>]*(?:(?:Next |New |Another )?(?:Question|Problem|Exercise|Q)|User|Human|Frage|Aufgabe|Pregunta|"
    r"Problema|Problème|Exercice|Вопрос|Задача|Swali|Domanda|Pergunta|Pertanyaan|Soal|Câu hỏi|Soru|"
    r"问题|問題|题目|質問|질문|문제|"
    r"প্রশ্ন|คำถาม|โจทย์|ప్రశ్న|السؤال|سؤال|प्रश्न|سوال)(?:\s*\d{1,3})?\s*\**\s*(?:[:：ঃ]|(?<=\*)\s*\n)"
    r"|\n#+ *(?:Next |New )?(?:Question|Problem|Exercise|Frage|Aufgabe|Pregunta|Problema|Swali|问题|問題)"
    r"\s*\d{0,3}\s*\n",
    re.IGNORECASE,
)
_CORRECTION = re.compile(_CORRECTIONS, re.IGNORECASE)

_WORD_MULTIPLIERS = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "lakh": 10**5, "crore": 10**7,
    "tausend": 10**3, "Million": 10**6, "Millionen": 10**6, "mil": 10**3, "millón": 10**6, "millones": 10**6,
    "mille": 10**3, "millions": 10**6, "тысяча": 10**3, "тысячи": 10**3, "тысяч": 10**3, "тыс": 10**3,
    "миллион": 10**6, "миллиона": 10**6, "миллионов": 10**6, "млн": 10**6, "ألف": 10**3, "آلاف": 10**3,
    "ألفا": 10**3, "ألفًا": 10**3, "مليون": 10**6, "ملايين": 10**6, "ribu": 10**3, "rb": 10**3, "juta": 10**6,
    "jt": 10**6, "nghìn": 10**3, "ngàn": 10**3, "triệu": 10**6, "milyon": 10**6, "milioni": 10**6,
}  # fmt: skip
_GLUED_MULTIPLIERS = {
    "百": 100, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "백": 100, "천": 10**3,
    "만": 10**4, "억": 10**8, "হাজার": 10**3, "লাখ": 10**5, "লক্ষ": 10**5, "কোটি": 10**7, "हज़ार": 10**3,
    "हजार": 10**3, "लाख": 10**5, "करोड़": 10**7, "వేలు": 10**3, "వేల": 10**3, "లక్షలు": 10**5, "లక్షల": 10**5,
    "หมื่น": 10**4, "แสน": 10**5, "ล้าน": 10**6,
}  # fmt: skip
_MULTIPLIER = "|".join(
    [rf"{word}(?!\w)" for word in sorted(_WORD_MULTIPLIERS, key=len, reverse=True)]
    + sorted(_GLUED_MULTIPLIERS, key=len, reverse=True)
    + [r"พัน(?!ธ)"]
)
_MULTIPLIERS = {
    **{word.casefold(): factor for word, factor in _WORD_MULTIPLIERS.items()},
    **_GLUED_MULTIPLIERS,
    "พัน": 10**3,
}
_NEGATIVE_WORDS = (
    r"minus|negative|moins|menos|минус|hasi|负|負|マイナス|마이너스|মাইনাস|ঋণাত্মক|మైనస్|ลบ|سالب|ऋण|माइनस"
)

_HARD_SPACES = "\u00a0\u2007\u2009\u202f"
_SIGNS = "\u2212\ufe63\uff0d\u2010\u2011"
_VULGAR = {chr(code): unicodedata.numeric(chr(code)) for code in (*range(0xBC, 0xBF), *range(0x2150, 0x215F))}
# Every sign of the Unicode category for currencies.
_CURRENCY = "$¢£¤¥֏؋৲৳૱௹฿៛\u20a0-\u20c0﷼﹩＄￠￡￥￦"
_NUMBER = re.compile(
    rf"(?P<sign>-)?\s?[{_CURRENCY}]?\s?(?P<sign2>-)?"
    rf"(?P<digits>\d+(?:[.,'’٫٬ {_HARD_SPACES}]\d+)*|[.٫]\d+)"
    rf"(?:\s?/\s?(?P<under>\d+)(?![/\d]))?"
)
# Currencies in letters before a number, glued to it or not: the codes of ISO 4217, and what people write.
_CODES = (
    "AED ARS AUD BDT BGN BRL CAD CHF CLP CNY COP CZK DKK DZD EGP ETB EUR GBP GHS HKD HUF IDR ILS INR IQD "
    "IRR ISK JOD JPY KES KHR KRW KWD KZT LAK LBP LKR MAD MMK MNT MXN MYR NGN NOK NPR NZD PEN PHP PKR PLN "
    "PYG QAR RMB RON RSD RUB RWF SAR SEK SGD THB TND TRY TWD TZS UAH UGX USD UYU UZS VND XAF XOF ZAR ZMW"
)
_CURRENCY_WORD = re.compile(
    rf"(?<![^\W\d_])(?:{'|'.join(_CODES.split())}"
    r"|Rp|Rs|RM|[KTU]?[Ss]h|Tk|[Kk]r|Fr|Ft|Kč|zł|TL|GH|лв|руб)\.?(?=\s?-?\d)"
)
_CJK_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_CJK_UNITS = {"十": 10, "百": 100, "千": 1000}
_CJK_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_CJK_NUMERAL = re.compile("[" + "".join([*_CJK_DIGITS, *_CJK_UNITS, *_CJK_MYRIADS]) + "]+")
_SENTENCE_END = re.compile(r"[。！？।؟]|[.!?](?=\s|$)")


@dataclass(frozen=True)
class _Found:
    value: Fraction
    start: int
    end: int


def read_number(text: str, language: str) -> Fraction | None:
    r"""Return the number `text` gives as its answer, or None.

    Looked for in this order: the last `\boxed{}`; what follows the last phrase that states an answer ("the
    answer is", "答案是", in any known language), unless a correction follows it; else the last number of the
    text. `language` (the one the text is written in) decides what "1.234" and "1,234" mean.
    """
    visible = _without_next_question(without_reasoning(text))
    boxed = _last_boxed(visible)
    if boxed is not None:
        found = _numbers(_plain(boxed), language)
        if found:
            return found[-1].value
    plain = _plain(visible)
    stated = _stated(plain, language)
    if stated is not None:
        return stated
    found = _numbers(plain, language)
    return found[-1].value if found else None


def same_number(found: Fraction, gold: int | float | str | Fraction) -> bool:
    """Whether a number read from a response is the reference (a number, or digits with "," for thousands)."""
    reference = Fraction(gold.replace(",", "")) if isinstance(gold, str) else Fraction(gold)
    return abs(found - reference) <= Fraction(1, 10**6)


def _without_next_question(text: str) -> str:
    """Up to where a model that ran on asks itself the next question, if an answer can stand before it."""
    for match in _NEXT_QUESTION.finditer(text):
        if any(character.isdecimal() for character in text[: match.start()]):
            return text[: match.start()]
    return text


def _last_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` with balanced braces, or None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : position]
    return None


def _plain(text: str) -> str:
    """Write digits and signs in ASCII; take away LaTeX, bold, and invisible marks."""
    for sign in _SIGNS:
        text = text.replace(sign, "-")
    text = re.sub("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "", text)
    text = "".join(_ascii(character) for character in text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2 ", text)
    text = text.replace("{,}", ",")
    text = re.sub(r"(?<=\d)\\[,;! ](?=\d)", "\u202f", text)
    text = _CURRENCY_WORD.sub("$", text)
    text = _POWER.sub(_written_out, text)
    text = re.sub(r"\^\{?\d+\}?", "", text)  # an exponent is no answer: m^2
    text = re.sub(r"\\([$%#&_])", r"\1", text)
    text = re.sub(r"\\(?:[a-zA-Z]+|[()\[\],;!])", " ", text)
    return re.sub(r"\*\*|__|[{}`]|(?<=\s)\*(?=\d)|(?<=\d)\*(?=[\s.,]|$)", "", text)


_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(
    r"(?<![\w.,^])(?:(?P<base>\d{1,12}(?:[.,]\d{1,12})?)\s*(?:[×xX*·⋅]|\\times|\\cdot)\s*)?"
    r"10\s*(?:\^\s*[{(]?\s*(?P<up>[-+]?\d{1,2})\s*[})]?|\*\*\s*(?P<stars>[-+]?\d{1,2})|(?P<raised>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2}))"
    r"|(?<![\w.,^])(?P<short>\d{1,12}(?:[.,]\d{1,12})?)[eE](?P<e>[-+]?\d{1,2})(?![\w])"
)


def _written_out(match: re.Match[str]) -> str:
    """`5 × 10^3` and `5e3` -> 5000, `5e-3` -> 5/1000: a fraction means the same in every language."""
    base = (match["base"] or match["short"] or "1").replace(",", ".")
    raised = (match["raised"] or "").translate(_SUPERSCRIPTS)
    value = Fraction(base) * Fraction(10) ** int(match["up"] or match["stars"] or raised or match["e"])
    return str(value)


def _ascii(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if character in _VULGAR:
        fraction = Fraction(_VULGAR[character]).limit_denominator(10)
        return f" {fraction.numerator}/{fraction.denominator}"
    return {"．": ".", "，": ",", "／": "/", "：": ":", "％": "%", "＝": "="}.get(character, character)


def _stated(plain: str, language: str) -> Fraction | None:
    """Return the number that follows the last statement of an answer, or None."""
    found = _numbers(plain, language)
    strong = sorted([*_STRONG.finditer(plain), *_KEY.finditer(plain)], key=lambda marker: marker.start())
    for marker in reversed(strong):
        value, end = _after(plain, marker.end(), found, language)
        if value is None:
            continue
        correction = _CORRECTION.search(plain, end)
        later = [number for number in found if correction and number.start >= correction.end()]
        return later[-1].value if later else value
    for marker in reversed(list(_ALONE.finditer(plain))):
        own = [number for number in found if marker.start("said") <= number.start < marker.end()]
        corrected = _CORRECTION.search(plain, marker.end()) is not None
        if len(own) == 1 and not corrected and not re.search(r"[=+*/×÷]", marker["said"]):
            return own[0].value
    for marker in reversed(list(_WEAK.finditer(plain))):
        value, end = _after(plain, marker.end(), found, language)
        if value is not None and not any(number.start >= end for number in found):
            return value
    return None


def _after(plain: str, start: int, found: Sequence[_Found], language: str) -> tuple[Fraction | None, int]:
    """Return the number stated in the first sentence with a number after `start`, and that sentence's end."""
    following = [number for number in found if number.start >= start]
    numeral = _cjk_numeral(plain, start) if language in {"zh", "ja"} else None
    first = following[0] if following else None
    between = plain[start : first.start] if first else plain[start:]
    stops = _SENTENCE_END.search(between.strip())
    if numeral is not None and (first is None or stops or numeral.end <= first.start):
        return numeral.value, numeral.end
    # The number must come before the sentence ends, or stand on its own after a line break ("Answer:\n18").
    if first is None or (stops and stops.start() < len(between.strip()) - 1):
        return None, start
    end = _SENTENCE_END.search(plain, first.end)
    line = plain.find("\n", first.end)
    stop = min(end.start() if end else len(plain), line if line >= 0 else len(plain))
    sentence = [number for number in following if number.end <= stop] or [first]
    equals = plain.rfind("=", first.start, stop)
    results = [number for number in sentence if number.start >= equals] if equals >= 0 else []
    return (results or sentence)[0].value, stop


def _cjk_numeral(plain: str, start: int) -> _Found | None:
    match = _CJK_NUMERAL.match(plain, start + len(plain[start:]) - len(plain[start:].lstrip(" :：")))
    if match is None:
        return None
    return _Found(Fraction(_cjk_value(match[0])), match.start(), match.end())


def _cjk_value(numeral: str) -> int:
    """Return the value of a Chinese numeral in ideographs: 一百二十 -> 120, 七万 -> 70000, 二〇 -> 20."""
    if not any(character in _CJK_UNITS or character in _CJK_MYRIADS for character in numeral):
        return int("".join(str(_CJK_DIGITS[character]) for character in numeral))
    total = section = digit = 0
    for character in numeral:
        if character in _CJK_DIGITS:
            digit = _CJK_DIGITS[character]
        elif character in _CJK_UNITS:
            section += (digit or 1) * _CJK_UNITS[character]
            digit = 0
        else:
            total = (total + section + digit or 1) * _CJK_MYRIADS[character]
            section = digit = 0
    return total + section + digit


def _numbers(plain: str, language: str) -> list[_Found]:
    """Return every number of a plain text, in order."""
    found: list[_Found] = []
    position = 0
    while match := _NUMBER.search(plain, position):
        position = match.end()
        start = match.start("digits")
        if start and re.match(r"[A-Za-z^_]", plain[start - 1]):
            continue  # H2O, x2, m_2: part of a name
        values, ends = _parse_groups(match["digits"], start, language)
        for value, (begin, end) in zip(values, ends, strict=True):
            found.append(_Found(value, begin, end))
        last = found.pop()
        if match["under"] and int(match["under"]):
            last = _Found(last.value / int(match["under"]), last.start, match.end())
        last, position = _multiplied(plain, last, position, language)
        if len(values) == 1 and _is_negative(plain, match):
            last = _Found(-last.value, last.start, last.end)
        found.append(_mixed(plain, found, last))
    return found


def _mixed(plain: str, found: list[_Found], last: _Found) -> _Found:
    """Join "1 1/2" into one number, taking its whole part off the list."""
    if not found or not 0 < last.value < 1 or "/" not in plain[last.start : last.end]:
        return last
    whole = found[-1]
    if plain[whole.end : last.start].strip(" ") or whole.end == last.start or whole.value.denominator != 1:
        return last
    found.pop()
    sign = -1 if whole.value < 0 else 1
    return _Found(whole.value + sign * last.value, whole.start, last.end)


def _is_negative(plain: str, match: re.Match[str]) -> bool:
    """Whether a sign or a word before a number makes it negative: "10 - 5", "10-5" and "COVID-19" do not."""
    before = plain[: match.start()]
    if match["sign"] or match["sign2"]:
        at = match.start("sign") if match["sign"] else match.start("sign2")
        joined = re.search(r"[\d)\]%A-Za-zА-Яа-я]$", plain[:at])
        subtracted = re.search(r"[\d)\]%]\s*$", before)
        return plain[at + 1] != " " and not joined and not subtracted
    word = re.search(rf"(?:{_NEGATIVE_WORDS})\s*$", before, re.IGNORECASE)
    return word is not None and not re.search(r"[\d)%]\s*$", before[: word.start()])


def _multiplied(plain: str, number: _Found, position: int, language: str) -> tuple[_Found, int]:
    """Apply a multiplier that follows ("3万5千", "70 mil") or, in Swahili, precedes ("elfu 70")."""
    if language == "sw":
        before = re.search(r"\b(elfu|milioni)\s*$", plain[: number.start], re.IGNORECASE)
        if before:
            factor = {"elfu": 10**3, "milioni": 10**6}[before[1].casefold()]
            return _Found(number.value * factor, before.start(), number.end), position
    total, value, end = Fraction(0), number.value, number.end
    while match := re.compile(rf"\s?({_MULTIPLIER})", re.IGNORECASE).match(plain, end):
        value, end = value * _MULTIPLIERS[match[1].casefold()], match.end()
        more = re.compile(r"\d+").match(plain, end) if match[1] in _GLUED_MULTIPLIERS else None
        if more is None:
            continue
        total, value, end = total + value, Fraction(more[0]), more.end()
    thousand = re.compile(r"[kK](?![\w/])").match(plain, end)
    if thousand:
        value, end = value * 1000, thousand.end()
    return _Found(total + value, number.start, end), max(position, end)


def _parse_groups(digits: str, start: int, language: str) -> tuple[list[Fraction], list[tuple[int, int]]]:
    """Read a run of digits and marks as one number, or as several where the marks cannot belong to one."""
    pieces = _split_at_plain_spaces(digits, language)
    values, spans, offset = [], [], 0
    for piece in pieces:
        at = digits.index(piece, offset)
        offset = at + len(piece)
        parts = [piece] if (value := _one_number(piece, language)) is not None else re.findall(r"\d+", piece)
        inner = at
        for part in parts:
            where = digits.index(part, inner)
            inner = where + len(part)
            values.append(value if len(parts) == 1 and value is not None else Fraction(part))
            spans.append((start + where, start + inner))
    return values, spans


def _split_at_plain_spaces(digits: str, language: str) -> list[str]:
    """Split at ordinary spaces, except those that group thousands in this language: "70 000"."""
    if language in SPACE_GROUPS and re.fullmatch(r"\d{1,3}(?: \d{3})+(?:[.,]\d+)?", digits):
        return [digits]
    return digits.split(" ")


def _one_number(piece: str, language: str) -> Fraction | None:
    """Read "1,234.50", "1.234,50", "1 234", "1,00,000"; None where the marks make no sense as one number."""
    piece = piece.replace("٬", "'").replace("’", "'")
    piece = re.sub(f"[ {_HARD_SPACES}]", "'", piece)
    if "٫" in piece:
        whole, _, rest = piece.partition("٫")
        return _decimal(whole, rest, "',.") if rest.isdigit() else None
    marks = re.sub(r"\d", "", piece)
    kinds = sorted(set(marks) & {".", ","}, key=piece.rfind)
    if not kinds:
        return _decimal(piece, "", "'")
    last = kinds[-1]
    whole, _, rest = piece.rpartition(last)
    if len(kinds) == 2:
        return _decimal(whole, rest, "'" + kinds[0]) if marks.count(last) == 1 else None
    if marks.count(last) > 1:
        return _decimal(piece, "", "'" + last)
    if "'" in marks or not _groups_thousands(whole, rest, last, language):
        return _decimal(whole, rest, "'")
    return _decimal(piece, "", "'" + last)


def _groups_thousands(whole: str, rest: str, mark: str, language: str) -> bool:
    """Whether the one mark of "1.234" or "1,234" groups thousands: three digits follow, and the language
    says so.

    "70,000" groups even where the comma is the decimal mark: nobody writes three zeros after it, while
    models often write the English form. "18.000" in a language with a decimal point stays 18.
    """
    if len(rest) != 3 or not 1 <= len(whole) <= 3 or whole.startswith("0"):
        return False
    decimal = "," if language in DECIMAL_COMMA else "."
    return mark != decimal or (mark == "," and rest == "000")


def _decimal(whole: str, rest: str, grouping: str) -> Fraction | None:
    """Return the value of a grouped whole part and decimal digits; None if the groups are wrong."""
    groups = re.split("[" + re.escape(grouping) + "]", whole)
    if len(groups) > 1:
        western = all(len(group) == 3 for group in groups[1:]) and 1 <= len(groups[0]) <= 3
        indian = (
            len(groups[-1]) == 3
            and all(len(group) == 2 for group in groups[1:-1])
            and 1 <= len(groups[0]) <= 2
        )
        if not (western or indian):
            return None
    digits = "".join(groups)
    if not (digits + rest or "0").isdigit():
        return None
    return Fraction(f"{digits or '0'}.{rest}" if rest else digits or "0")
