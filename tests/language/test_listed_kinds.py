"""Other texts of each kind that verdicts once got wrong: what a bilingual reader would say of them."""

from __future__ import annotations

import pytest

from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_eval.language.off_target import Verdict, get_judge
from lens_eval.language.reply_form import form_of


def judged(language: str, text: str, prompt: str = "", *more: str) -> Verdict:
    candidates = tuple(sorted({*DEFAULT_LANGUAGES, language, *more}))
    return get_judge("en", candidates).judge(text, language, prompt)


ECHOES = [
    (
        "Türkiye'nin en kalabalık şehri hangisidir ve nüfusu kaçtır?",
        "",
        "Nüfusu en kalabalık şehir İstanbul'dur.",
    ),
    (
        "Explica por que o céu é azul em duas frases curtas.",
        " Explica por que o céu é azul.",
        "A luz azul espalha-se mais no ar do que a vermelha.",
    ),
    (
        "물이 끓는 온도는 몇 도입니까? 그 이유도 설명해 주세요.",
        "",
        "물은 백 도에서 끓으며 기압이 낮으면 더 낮아집니다.",
    ),
    (
        "水が沸騰する温度は何度ですか。理由も説明してください。",
        "水が沸騰する温度は何度ですか。",
        "百度です。気圧が低い山の上ではもっと低くなります。",
    ),
]


@pytest.mark.parametrize(("prompt", "behind", "answer"), ECHOES)
def test_the_prompt_again_is_an_echo_and_an_answer_is_none(prompt: str, behind: str, answer: str) -> None:
    assert form_of(prompt + behind, prompt).name == "echo"
    assert form_of(answer, prompt).name == "text"


LOOPS = [
    ("", "我们的家"),
    ("Il modo ", "di aprire la porta è "),
    ("", "এটি একটি ভালো "),
    ("", "và sau đó chúng ta có thể "),
]


@pytest.mark.parametrize(("before", "period"), LOOPS)
def test_a_period_to_the_end_is_a_loop_and_once_is_none(before: str, period: str) -> None:
    assert form_of(before + 6 * period, "").name == "loop"
    assert form_of(before + period, "").name == "text"


SERBIAN = [
    "Beograd je glavni grad Srbije i nalazi se na ušću Save u Dunav.",
    "Deca svakog jutra idu u školu autobusom jer je daleko.",
    "Juče je padala kiša, pa smo ostali kod kuće i gledali film.",
    "Moj brat radi u bolnici i često se vraća kasno uveče.",
]


@pytest.mark.parametrize("text", SERBIAN)
def test_serbian_in_latin_letters(text: str) -> None:
    assert judged("sr", text).answered_in == "sr"
    assert judged("sw", text).outcome == "other"  # the control


MIXED = [
    ("bn", "ব্যাংক has been closed আজ because of the holiday তাই we cannot যাওয়া to the office আগামীকাল"),
    ("zh", "这是一个关于动物的故事。 As an AI language model, I cannot do that."),
    ("ar", "اليوم كان الطقس جميلا جدا but then it started to rain and we had to go home"),
    ("de", "Der Zug war leider zu spät, so we decided to take the bus to the city instead"),
    (
        "sw",
        "Mwalimu alisema kwamba the exam will be held next week na wanafunzi wote wanapaswa to prepare",
    ),
]


@pytest.mark.parametrize(("language", "text"), MIXED)
def test_half_in_english_is_off_target_and_its_letters_are_counted(language: str, text: str) -> None:
    verdict = judged(language, text)
    assert verdict.outcome == "central"
    assert verdict.characters["central"] > 0.3


PREAMBLES = [
    (
        "de",
        "Here are some of the best analyses to perform during due diligence of enterprise software companies, "
        "written in German:",
    ),
    ("fr", "Sure, here is the text you asked for, translated into French:"),
    ("es", "Below is a short summary of the article in Spanish:"),
    ("ja", "Certainly! Here are three ideas for your trip, in Japanese:"),
]


@pytest.mark.parametrize(("language", "text"), PREAMBLES)
def test_a_preamble_is_central(language: str, text: str) -> None:
    assert judged(language, text).outcome == "central"


TITLES = [
    ("es", "1. The Shawshank Redemption\n2. The Godfather\n3. Pulp Fiction"),
    ("fr", "- The Great Gatsby\n- To Kill a Mockingbird\n- The Catcher in the Rye"),
    ("ko", "1. Breaking Bad\n2. Game of Thrones\n3. The Walking Dead"),
    ("de", "* Bohemian Rhapsody\n* Stairway to Heaven\n* Hotel California"),
]
CODE = [
    ("es", "SELECT name, age\nFROM users\nWHERE age > 30\nORDER BY name;"),
    ("zh", "INSERT INTO orders (id, total)\nVALUES (1, 20.5);"),
    ("es", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
    ("zh", "fatal: not a git repository (or any of the parent directories): .git"),
    ("es", "# compute the mean of the list\nmean = sum(values) / len(values)"),
    ("zh", "// return the larger of the two\nreturn a > b ? a : b;"),
    ("es", "import numpy as np\nimport pandas as pd"),
    ("zh", "npm install --save-dev typescript"),
]


@pytest.mark.parametrize(("language", "text"), [*TITLES, *CODE])
def test_titles_and_code_tell_no_language(language: str, text: str) -> None:
    assert judged(language, text).outcome == "undetermined"
    assert (
        judged(language, text + "\n\nThis is all that I could find out for you today.").outcome == "central"
    )


DATA = [
    (
        "ko",
        '{\n  "name": "김민수",\n  "city": "서울에 살고 있습니다",\n  "favorite_food": "김치찌개를 좋아합니다"\n}',
    ),
    ("ko", "name: 김민수\noccupation: 초등학교 선생님입니다\nhobby: 주말마다 등산을 갑니다"),
    ("ru", '{\n  "title": "Война и мир",\n  "summary": "Роман о жизни русского общества во время войны"\n}'),
    ("ar", '{\n "question": "ما هي عاصمة مصر؟",\n "answer": "عاصمة مصر هي القاهرة"\n}'),
]


@pytest.mark.parametrize(("language", "text"), DATA)
def test_keys_in_english_are_set_aside(language: str, text: str) -> None:
    assert judged(language, text).outcome == "on_target"
    assert judged("sw", text).outcome == "other"  # the control: values are judged


SOURCE = "The weather will be cold and rainy during the whole weekend."
TARGET = "El tiempo será frío y lluvioso durante todo el fin de semana."


@pytest.mark.parametrize("marks", ["> {}\n\n", "*{}*\n", "‘{}’ ", "{}\n", "«{}» ", "**{}**\n\n", "_{}_\n"])
def test_the_sentence_to_translate_is_a_quotation(marks: str) -> None:
    text = marks.format(SOURCE) + TARGET
    assert judged("es", text, f"Translate into Spanish: {SOURCE}").outcome == "on_target"
    assert judged("es", text, "Translate it into Spanish.").characters["central"] > 0.3  # the control


BORROWED = [
    ("it", "Il machine learning è una branca dell'informatica."),
    ("es", "El big data permite a las empresas entender mejor a sus clientes."),
    ("fr", "Le machine learning est une branche de l'informatique."),
    ("de", "Das Deep Learning ist ein Teil des maschinellen Lernens."),
]


@pytest.mark.parametrize(("language", "text"), BORROWED)
def test_a_term_from_english_is_on_target(language: str, text: str) -> None:
    assert judged(language, text).outcome == "on_target"


ROMANISED = [
    ("hi", "Mujhe aaj bahut bhookh lagi hai aur main ghar jaana chahta hoon."),
    ("hi", "Yeh kitaab bahut acchi hai lekin thodi lambi hai."),
    ("ar", "Ana bahibb el qahwa fel sobh w ba3dein barooh el shoghl."),
    ("ja", "Kinou wa tomodachi to eiga wo mimashita."),
    ("zh", "Women mingtian qu gongyuan wan, ni yao lai ma?"),
]


@pytest.mark.parametrize(("language", "text"), ROMANISED)
def test_romanised_text(language: str, text: str) -> None:
    verdict = judged(language, text)
    assert verdict.outcome == "other"
    assert verdict.answered_in in (f"{language}-Latn", "Latn")


NEIGHBOURS = [
    ("ru", "bg", "Вчера ходихме на пазара и купихме ябълки, защото бяха евтини."),
    ("ru", "uk", "Вчора ми ходили на ринок і купили яблука, бо вони були дешеві."),
    ("ar", "fa", "دیروز به بازار رفتیم و سیب خریدیم چون ارزان بودند."),
    ("ar", "ur", "کل ہم بازار گئے اور سیب خریدے کیونکہ وہ سستے تھے۔"),
    ("hi", "mr", "काल आम्ही बाजारात गेलो आणि सफरचंदे विकत घेतली कारण ती स्वस्त होती."),
    ("es", "pt", "Ontem fomos ao mercado e compramos maçãs porque estavam baratas."),
    ("es", "it", "Ieri siamo andati al mercato e abbiamo comprato le mele perché costavano poco."),
    ("es", "gl", "Onte fomos ao mercado e mercamos mazás porque estaban moi baratas."),
    ("sw", "sl", "Jutri gremo na trg, ker moramo kupiti kruh in sir za družino."),
]


@pytest.mark.parametrize(("asked", "written", "text"), NEIGHBOURS)
def test_a_neighbour_is_named_without_being_a_candidate(asked: str, written: str, text: str) -> None:
    verdict = judged(asked, text)
    assert (verdict.outcome, verdict.answered_in) == ("other", written)


INDONESIAN = [
    "Kemarin kami pergi ke pasar dan membeli apel karena harganya murah sekali.",
    "Dia bekerja di kantor pemerintah sejak tahun lalu.",
    "Saya bisa berbicara bahasa Inggris karena sering menonton film.",
]


@pytest.mark.parametrize("text", INDONESIAN)
def test_indonesian_beside_malay(text: str) -> None:
    assert judged("id", text, "", "ms").outcome == "on_target"
