"""What real replies are made of: mixed sentences, near languages, scripts, and what is no text."""

from __future__ import annotations

import pytest

from lens_eval.base.errors import UserError
from lens_eval.language.off_target import Judge, Verdict, get_judge

ENGLISH = "The farmers are waiting for the rain to come."
SPANISH = "Los campesinos están esperando a que llegue la lluvia."


def judged(text: str, language: str, prompt: str | None = None) -> Verdict:
    return get_judge().judge(text, language, prompt)


MIXED = [
    ("bn", "ব্যাংক has been closed আজ because of the holiday তাই we cannot যাওয়া to the office আগামীকাল"),
    ("zh", "这是一个关于动物的故事。 As an AI language model, I cannot do that."),
    ("es", "The children are playing in the garden mientras su madre prepara la comida en casa."),
    ("es", "Los niños are jugando en the jardín behind de la vieja school with sus amigos."),
    ("de", "Die Kinder are playing im Garten because das Wetter is sehr schön today."),
    (
        "fr",
        "Sure, here is the translation you asked for: Les enfants jouent dans le jardin derrière.",
    ),
    ("sw", "Watoto are playing kwenye bustani and they are very happy leo."),
    ("pt", "O gato está no jardim and the dog is in the house com as crianças."),
    ("id", "Anak-anak itu bermain di taman but their mother is still at home memasak nasi."),
    ("ru", "Вчера я went to the store и купил some milk and bread для моей семьи."),
]


@pytest.mark.parametrize(("language", "text"), MIXED)
def test_two_languages_in_one_sentence_are_off_target_in_part(language: str, text: str) -> None:
    verdict = judged(text, language)
    assert verdict.outcome == "central"
    assert 0.1 < verdict.characters["central"] < 0.9


def test_a_preamble_in_english_that_names_the_language_is_central() -> None:
    text = "Here are some of the best analyses to perform during due diligence, written in German:"
    assert judged(text, "de").outcome == "central"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("it", "Il machine learning è una branca dell'informatica."),
        ("es", "La película The Lord of the Rings fue dirigida por Peter Jackson y ganó muchos premios."),
    ],
)
def test_a_borrowed_term_or_a_title_mixes_nothing(language: str, text: str) -> None:
    assert judged(text, language).outcome == "on_target"


@pytest.mark.parametrize(
    ("language", "text", "found"),
    [
        (
            "hi",
            "Mujhe aaj bahut khushi hui ki aap yahan aaye aur hum saath mein khana khayenge.",
            "hi-Latn",
        ),
        ("ar", "Ana ahub an adhhab ila al bahr fi al sayf ma'a asdiqai.", "ar-Latn"),
        ("ja", "Watashi wa mainichi asa roku ji ni okite, inu to sanpo ni ikimasu.", "ja-Latn"),
        ("zh", "Wo jintian hen gaoxing, yinwei wo de pengyou yao lai kan wo.", "zh-Latn"),
        ("ru", "Къде е най-близката аптека и какво мога да направя, ако не е отворена?", "bg"),
        ("ru", "Я не знаю, що це таке, але ми повинні зробити це якомога швидше.", "uk"),
        ("ar", "این کتاب را دیروز از کتابخانه گرفتم و می‌خواهم آن را برای شما بخوانم.", "fa"),
        ("ar", "یہ کتاب میں نے کل لائبریری سے لی تھی اور میں اسے آپ کے لیے پڑھوں گا۔", "ur"),
        ("hi", "मी काल बाजारात गेलो होतो आणि तेथे मला माझा जुना मित्र भेटला, तो आता पुण्यात राहतो आहे.", "mr"),
        ("es", "Eu não sei onde está o meu livro, mas acho que ficou na casa da minha mãe.", "pt"),
        ("es", "Non so dove sia il mio libro, ma credo che sia rimasto nella casa di mia madre.", "it"),
        ("sw", "Beograd je glavni grad Srbije i nalazi se na ušću Save u Dunav.", "hr"),
    ],
)
def test_near_romanised_and_unexpected_languages_are_named(language: str, text: str, found: str) -> None:
    verdict = judged(text, language)
    assert (verdict.outcome, verdict.answered_in) == ("other", found)


def test_a_language_is_on_target_in_any_of_its_scripts() -> None:
    latin = "Beograd je glavni grad Srbije i nalazi se na ušću Save u Dunav."
    for code in ("sr", "sr-Latn"):
        assert judged(latin, code).outcome == "on_target"
    assert judged("Београд је главни град Србије и налази се на ушћу Саве.", "sr").outcome == "on_target"
    with pytest.raises(UserError, match=r"Azerbaijani in the script Cyrl.*GlotLID"):
        Judge().target("az-Cyrl")


@pytest.mark.parametrize("code", ["am", "km", "lo", "si", "bo", "dv", "or", "my"])
def test_a_script_of_its_own_needs_no_detector(code: str) -> None:
    assert Judge().target(code).language == code


KNOWN_ELSEWHERE = ("ha", "ig", "mg", "rw", "uz", "ps", "ckb", "mt", "lb", "ky", "tg", "tk", "sd", "om", "ny")


@pytest.mark.parametrize("code", KNOWN_ELSEWHERE)
def test_what_lingua_lacks_names_the_detector_that_has_it(code: str) -> None:
    with pytest.raises(UserError, match="GlotLID"):
        Judge().target(code)


ASIDE = [
    (
        "es",
        "Estas son buenas:\n1. The Shawshank Redemption\n2. The Lord of the Rings",
    ),
    ("es", "1. **Gone with the Wind** (1939) - Una historia sobre la guerra y el amor."),
    ("ko", '{\n  "name_of_the_person": "김철수",\n  "occupation": "선생님입니다"\n}'),
    ("ko", "name: 김철수\noccupation: 선생님입니다\nfavorite_food: 비빔밥"),
    ("ko", "라이브러리를 불러옵니다.\nfrom sklearn.model_selection import train_test_split"),
    (
        "ko",
        "다음 쿼리를 사용하세요.\nSELECT name, age\nFROM customers\nWHERE age > 30\nORDER BY name;",
    ),
    ("ja", "エラーが出ました。\nTypeError: unsupported operand type(s) for +: 'int' and 'str'"),
    ("ja", "次のコードです。\n# Load the data from the file and split it\ndata = load(path)"),
]


@pytest.mark.parametrize(("language", "text"), ASIDE)
def test_what_is_not_language_is_set_aside(language: str, text: str) -> None:
    assert judged(text, language).outcome == "on_target"
    assert judged(f"{text}\n{ENGLISH}", language).outcome == "central"  # the control


@pytest.mark.parametrize("form", ["> {}\n", "*{}*\n", "‘{}’ ", "{}\n", "{} ", '"{}" '])
def test_the_prompt_repeated_is_a_quotation_in_any_marks_or_none(form: str) -> None:
    reply = form.format(ENGLISH) + SPANISH
    assert judged(reply, "es", f"Traduce al español: {ENGLISH}").outcome == "on_target"
    assert judged(reply, "es").outcome == "central"  # the control: no prompt


@pytest.mark.parametrize(
    ("language", "text", "words", "others"),
    [
        ("ko", "저는 오늘 학교에 갔는데 친구들이 很多 있었습니다.", ("很多",), 1),
        ("ko", "저는 오늘 학교에 갔는데 친구들이 очень 많았습니다.", ("очень",), 1),
        ("es", "Los niños juegan however en el jardín de la escuela.", ("however",), 0),
        ("ko", "저는 오늘 친구들과 학교에 갔습니다(學校).", (), 0),
    ],
)
def test_foreign_words_are_counted_and_shown(
    language: str, text: str, words: tuple[str, ...], others: int
) -> None:
    verdict = judged(text, language)
    assert (verdict.outcome, verdict.foreign, verdict.foreign_but_central) == ("on_target", words, others)
