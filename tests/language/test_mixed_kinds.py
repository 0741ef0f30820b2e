"""Two languages in one reply: half sentences, words in turn, preambles, foreign words, and borrowings that are none."""

from __future__ import annotations

import pytest

from lens_eval.language.off_target import Verdict, get_judge


def judged(text: str, language: str, prompt: str | None = None) -> Verdict:
    return get_judge().judge(text, language, prompt)


HALVES = [
    ("es", "Esta mañana fuimos al mercado but we could not find any fresh fish."),
    ("es", "If you want to learn quickly, es mejor practicar un poco todos los días."),
    ("fr", "Hier soir nous avons dîné chez mes parents and then we went home very late."),
    ("fr", "The best way to cook rice est de le rincer avant de le mettre dans la casserole."),
    ("de", "Gestern haben wir lange im Park gesessen and we talked about the old days."),
    ("de", "You should always keep in mind, dass man nicht alles auf einmal lernen kann."),
    ("it", "La mattina bevo sempre un caffè before I go to work with my brother."),
    ("pt", "Depois do almoço vamos à praia because the weather is going to be nice."),
    ("nl", "Morgen gaan we met de trein naar zee and we will come back in the evening."),
    ("sv", "Barnen leker i trädgården while their mother is working in the kitchen."),
    ("pl", "Wczoraj byliśmy w kinie z przyjaciółmi but the film was not very good."),
    ("tr", "Dün akşam annemle pazara gittik but there was nothing left to buy."),
    ("sw", "Jana tulikwenda sokoni kununua samaki but there was no fish in the market."),
    ("id", "Kemarin kami pergi ke pasar untuk membeli ikan but there was nothing left to buy."),
    ("vi", "Hôm qua chúng tôi đi chợ để mua cá but there was nothing left for us to buy."),
    ("tl", "Kahapon pumunta kami sa palengke para bumili ng isda but there was nothing left to buy."),
    ("ro", "Ieri am fost la piață cu mama mea and we bought some fish for the soup."),
    ("ru", "Вчера мы ходили на рынок but there was no fish left for us to buy."),
    ("ar", "ذهبنا أمس إلى السوق but there was no fish left for us to buy."),
    ("hi", "कल हम बाज़ार गए थे but there was no fish left for us to buy."),
    ("bn", "গতকাল আমরা বাজারে গিয়েছিলাম but there was no fish left for us to buy."),
    ("ko", "어제 우리는 시장에 갔지만 there was no fish left for us to buy."),
    ("ja", "昨日は市場へ行きましたが there was no fish left for us to buy."),
    ("zh", "昨天我们去了市场 but there was no fish left for us to buy."),
    ("th", "เมื่อวานเราไปตลาด but there was no fish left for us to buy."),
]
TURNS = [
    ("es", "El perro is sleeping debajo de la table because hace mucho heat en la cocina today."),
    ("fr", "Mon frère has bought une nouvelle voiture and it is très rapide mais too expensive."),
    ("de", "Mein Bruder has bought ein neues Auto and es ist very schnell aber too teuer."),
    ("it", "Mio fratello has bought una nuova macchina and it is molto veloce ma too cara."),
    ("pt", "Meu irmão has bought um carro novo and it is muito rápido mas too caro."),
    ("nl", "Mijn broer has bought een nieuwe auto and it is heel snel maar too duur."),
    ("sw", "Ndugu yangu has bought gari jipya and it is very haraka lakini too ghali."),
    ("id", "Kakak saya has bought mobil baru and it is sangat cepat tetapi too mahal."),
    ("tr", "Kardeşim has bought yeni bir araba and it is çok hızlı ama too pahalı."),
    ("pl", "Mój brat has bought nowy samochód and it is bardzo szybki ale too drogi."),
    ("ru", "Мой брат has bought новую машину and it is очень быстрая but too дорогая."),
    ("ar", "أخي has bought سيارة جديدة and it is سريعة جدا but too غالية."),
    ("hi", "मेरे भाई ने has bought नई गाड़ी and it is बहुत तेज़ but too महँगी।"),
    ("bn", "আমার ভাই has bought নতুন গাড়ি and it is খুব দ্রুত but too দামি।"),
    ("ko", "제 동생은 has bought 새 차를 and it is 아주 빠르고 but too 비쌉니다."),
    ("zh", "我弟弟 has bought 一辆新车 and it is 非常快 but too 贵。"),
    ("ja", "弟は has bought 新しい車 and it is とても速い but too 高いです。"),
    ("th", "น้องชาย has bought รถใหม่ and it is เร็วมาก but too แพง"),
]
PREAMBLES = [
    ("de", "Sure! Here is a short text about the city of Hamburg in German:"),
    ("es", "Of course, here is the recipe you asked for, written in Spanish:"),
    ("fr", "Certainly! Below you will find the answer to your question in French."),
    ("sw", "Here is the answer to your question in Swahili:"),
    ("id", "Here is how you can do it, step by step, in Indonesian:"),
    ("pt", "Okay, here's a simple explanation of it in Portuguese:"),
    ("it", "Sure, I can help you with that. Here is the text in Italian:"),
    ("tr", "Here are three tips that will help you, translated into Turkish:"),
    ("zh", "Sure! Here is a short story about a dog in Chinese: 从前有一只小狗，它住在河边。"),
    ("ja", "Here is the answer in Japanese: 昔々、川のそばに小さな犬が住んでいました。"),
    ("ko", "Sure, here is the translation into Korean: 옛날 옛적에 강가에 작은 개가 살았습니다."),
    ("ar", "Here is the answer to your question in Arabic: كان يا ما كان كلب صغير يعيش قرب النهر."),
    ("es", "Sure, here is a short answer: Los perros necesitan agua fresca todos los días."),
    ("de", "Here is the translation you asked for: Der Hund schläft unter dem Tisch."),
    ("sw", "Here is the story in Swahili: Hapo zamani za kale mbwa mdogo aliishi karibu na mto."),
]


@pytest.mark.parametrize(("language", "text"), [*HALVES, *TURNS])
def test_a_sentence_in_two_languages_is_off_target_in_part(language: str, text: str) -> None:
    verdict = judged(text, language)
    assert verdict.outcome == "central"
    assert 0.1 < verdict.characters["central"] < 0.9


@pytest.mark.parametrize(("language", "text"), PREAMBLES)
def test_an_english_preamble_is_central(language: str, text: str) -> None:
    assert judged(text, language).outcome == "central"


BORROWED = [
    ("it", "Il deep learning è un ramo del machine learning."),
    ("it", "Ho fatto il backup del computer prima dell'upgrade."),
    ("de", "Das Team hat gestern ein Meeting über Machine Learning und Big Data gehabt."),
    ("de", "Für das Homeoffice brauche ich einen Laptop und eine gute Internetverbindung."),
    ("fr", "Le machine learning est une branche de l'informatique."),
    ("fr", "Elle travaille dans le marketing d'une start-up et fait du jogging le week-end."),
    ("es", "El machine learning es una rama de la informática."),
    ("es", "Descargué el software de código abierto y lo instalé en el smartphone."),
    ("pt", "O machine learning é um ramo da ciência da computação."),
    ("nl", "Machine learning is een tak van de informatica."),
    ("sv", "Machine learning är en gren av datavetenskapen."),
    ("pl", "Machine learning to dziedzina informatyki."),
    ("id", "Machine learning adalah cabang ilmu komputer yang bisa belajar dari data."),
    ("tr", "Machine learning bilgisayar biliminin bir dalıdır."),
    ("sw", "Machine learning ni tawi la sayansi ya kompyuta."),
    ("vi", "Machine learning là một nhánh của khoa học máy tính."),
    ("ro", "Machine learning este o ramură a informaticii care folosește foarte multe date."),
    ("es", "Gabriel leyó The Catcher in the Rye cuando tenía quince años."),
    ("de", "Er hat The Old Man and the Sea schon dreimal gelesen."),
    ("fr", "Le film Back to the Future est sorti en 1985 et a eu deux suites."),
    ("it", "La canzone Bridge over Troubled Water è del 1970."),
    ("pt", "A banda The Rolling Stones tocou ontem em São Paulo."),
    ("ko", "이 프로그램은 open source software 라이선스로 배포됩니다."),
    ("ja", "彼は New York Times の記者として働いています。"),
    ("ru", "Он работает в компании General Electric и живёт в Сан-Франциско."),
    ("zh", "他在 Stack Overflow 上回答了很多关于 Python 的问题。"),
]


@pytest.mark.parametrize(("language", "text"), BORROWED)
def test_terms_names_and_titles_mix_nothing(language: str, text: str) -> None:
    verdict = judged(text, language)
    assert verdict.outcome == "on_target"
    assert verdict.characters["central"] == 0


FOREIGN = [
    ("ko", "오늘은 날씨가 非常 좋아서 친구와 공원에 갔습니다.", ("非常",), 1),
    ("ko", "이 문제를 해결하기 위해서는 必要 한 자료가 더 있어야 합니다.", ("必要",), 1),
    ("ko", "그는 아침마다 хлеб 한 조각과 우유를 먹습니다.", ("хлеб",), 1),
    ("ko", "우리 가족은 주말에 とても 바빠서 집에 없었습니다.", ("とても",), 1),
    ("ko", "그 책은 정말 interesting 했지만 조금 길었습니다.", ("interesting",), 0),
    ("ja", "彼女は毎朝 очень 早く起きて散歩に行きます。", ("очень",), 1),
    ("ja", "昨日は朋友们と公園へ行きました。", ("朋友们",), 1),
    ("ja", "昨日は友達と映画を見て、とても happy な気分でした。", ("happy",), 0),
    ("ru", "Мы вчера долго гуляли по 公园 и разговаривали о работе.", ("公园",), 1),
    ("ru", "Эта задача довольно difficult, но мы её решили.", ("difficult",), 0),
    ("ar", "ذهبت أمس إلى 市场 مع أخي واشترينا الخضار.", ("市场",), 1),
    ("ar", "هذا الكتاب very مفيد لكل الطلاب.", ("very",), 0),
    ("hi", "मुझे यह किताब बहुत 有趣 लगी और मैंने उसे दो बार पढ़ा।", ("有趣",), 1),
    ("th", "เมื่อวานฉันไปตลาดกับ друг ของฉันและซื้อผัก", ("друг",), 1),
    ("zh", "今天天气 очень 好，我们去公园散步了。", ("очень",), 1),
    ("zh", "这本书真的很 interesting，我看了两遍。", ("interesting",), 0),
    ("es", "Mi hermana trabaja en una tienda 非常 bonita del centro.", ("非常",), 1),
    ("de", "Wir haben gestern lange über die работа gesprochen.", ("работа",), 1),
    ("fr", "Il faut because laver les légumes avant de les cuire.", ("because",), 0),
    ("sw", "Watoto wanapenda kucheza 足球 kila siku baada ya shule.", ("足球",), 1),
]


@pytest.mark.parametrize(("language", "text", "words", "others"), FOREIGN)
def test_foreign_words_are_shown(language: str, text: str, words: tuple[str, ...], others: int) -> None:
    verdict = judged(text, language)
    assert (verdict.outcome, verdict.foreign, verdict.foreign_but_central) == ("on_target", words, others)
    for word in words:
        assert word not in judged(text, language, f"({word})").foreign  # the control: a word of the prompt


NATIVE_ONLY = [
    ("ko", "저는 BTS와 LG전자, 그리고 서울대학교(首爾大學校)를 좋아합니다."),
    ("ko", "비타민 C와 DNA는 몸에 꼭 필요한 물질입니다."),
    ("ja", "株式会社ソニーのPlayStation 5は2020年に発売されました。"),
    ("zh", "Python和Java都是编程语言，WiFi的速度是100 Mbps。"),
    ("ru", "Компания Apple выпустила новый iPhone и обновила iOS."),
    ("ar", "يستخدم الجميع تطبيق WhatsApp وخدمة Google كل يوم."),
    ("hi", "उसने Google पर CEO का नाम खोजा और PDF डाउनलोड की।"),
    ("es", "El email llegó tarde porque el wifi del hotel no funcionaba."),
    ("de", "Ich habe den Link zur Website per E-Mail geschickt."),
    ("th", "ภาพนี้วาดโดย Leonardo da Vinci ในประเทศอิตาลี"),
    ("sw", "Nilituma barua pepe kupitia Gmail na WhatsApp."),
]


@pytest.mark.parametrize(("language", "text"), NATIVE_ONLY)
def test_names_abbreviations_and_borrowings_are_no_foreign_words(language: str, text: str) -> None:
    verdict = judged(text, language)
    assert (verdict.outcome, verdict.foreign) == ("on_target", ())


NATIVE_WORDS = [
    ("de", "Der Zug war verspätet, also nahm ich den Bus; komm bitte her."),
    ("es", "Has hecho un buen trabajo porque has llegado a tiempo y has ayudado."),
    ("fr", "Le but de cette sentence est la traduction du texte."),
    ("vi", "Chúng ta có thể gặp may, rồi than hết thì chính phủ can thiệp."),
    ("tr", "Her sabah okula gidiyorum ve her akşam eve dönüyorum."),
]
FORMULAS = [
    ("ja", "関数 sqrt(x) を使って d = sqrt(a^2 + b^2) を計算します。"),
    ("zh", "时间复杂度为O(log(min(m,n)))，其中 v^2=2gh 表示速度。"),
    ("ko", "변수 list_a와 함수 len(list_a)를 사용하면 길이를 구할 수 있습니다."),
    ("ru", "Площадь круга равна pi*r^2, поэтому функция area(r) проста."),
]


@pytest.mark.parametrize(("language", "text"), [*NATIVE_WORDS, *FORMULAS])
def test_words_spelled_as_in_english_and_formulas_are_no_foreign_words(language: str, text: str) -> None:
    verdict = judged(text, language)
    assert (verdict.outcome, verdict.foreign) == ("on_target", ())


@pytest.mark.parametrize(
    ("language", "text", "word"),
    [
        ("de", "Der Zug war verspätet, also nahm ich however den Bus.", "however"),
        ("es", "Has hecho un buen trabajo because has llegado a tiempo y has ayudado.", "because"),
        ("ja", "関数 sqrt(x) を使って useful な値を計算します。", "useful"),
        ("zh", "时间复杂度为O(log(n))，这个方法 really 很快。", "really"),
    ],
)
def test_english_beside_them_is_foreign(language: str, text: str, word: str) -> None:
    assert judged(text, language).foreign == (word,)


_CODE = "```python\nimport heapq\n# every neighbour once\nnums1 = heapq.merge(left, right)\n```\n"


@pytest.mark.parametrize("word", ["heapq", "nums", "merge"])
def test_names_that_the_code_of_a_reply_uses_are_no_foreign_words(word: str) -> None:
    text = f"이 함수는 {word} 값을 사용해서 목록을 정렬합니다."
    assert judged(text, "ko").foreign == (word,)  # the control: without the code
    assert judged(_CODE + text, "ko").foreign == ()


def test_words_of_comments_in_code_are_foreign() -> None:
    assert judged(_CODE + "이 함수는 neighbour 값을 사용해서 정렬합니다.", "ko").foreign == ("neighbour",)
