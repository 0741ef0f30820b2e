"""Near languages in both directions, other scripts of a language, romanised text, codes of every benchmark."""

from __future__ import annotations

import pytest

from lens_eval.base.errors import UserError
from lens_eval.language.languages import LANGUAGES, near, normalise_code
from lens_eval.language.off_target import Judge, Verdict, get_judge

# Sentences of everyday text in each of languages that are close.
TEXTS: dict[str, tuple[str, ...]] = {
    "ru": ("Я не знаю, где лежит моя книга, но думаю, что она осталась у мамы дома.",
           "Завтра мы поедем в деревню, потому что там сейчас очень тепло."),
    "uk": ("Я не знаю, де лежить моя книжка, але думаю, що вона залишилася у мами вдома.",
           "Завтра ми поїдемо в село, тому що там зараз дуже тепло."),
    "be": ("Я не ведаю, дзе ляжыць мая кніга, але думаю, што яна засталася ў маці дома.",
           "Заўтра мы паедзем у вёску, таму што там цяпер вельмі цёпла."),
    "bg": ("Не знам къде е книгата ми, но мисля, че остана у дома при майка ми.",
           "Утре ще отидем на село, защото там сега е много топло."),
    "mk": ("Не знам каде е мојата книга, но мислам дека остана дома кај мајка ми.",
           "Утре ќе одиме на село бидејќи таму сега е многу топло."),
    "sr": ("Не знам где је моја књига, али мислим да је остала код мајке у кући.",
           "Сутра ћемо ићи на село јер је тамо сада веома топло."),
    "ar": ("لا أعرف أين وضعت كتابي، لكنني أظن أنه بقي في بيت أمي.",
           "سنذهب غدا إلى القرية لأن الجو هناك دافئ جدا الآن."),
    "fa": ("نمی‌دانم کتابم کجاست، اما فکر می‌کنم در خانهٔ مادرم مانده باشد.",
           "فردا به روستا می‌رویم چون آنجا الان هوا خیلی گرم است."),
    "ur": ("مجھے نہیں معلوم کہ میری کتاب کہاں ہے لیکن میرا خیال ہے کہ وہ امی کے گھر رہ گئی ہے۔",
           "کل ہم گاؤں جائیں گے کیونکہ وہاں اب بہت گرمی ہے۔"),
    "hi": ("मुझे नहीं पता कि मेरी किताब कहाँ है, लेकिन लगता है कि वह माँ के घर रह गई है।",
           "कल हम गाँव जाएँगे क्योंकि वहाँ अब बहुत गर्मी है।"),
    "mr": ("माझे पुस्तक कुठे आहे ते मला माहीत नाही, पण मला वाटते की ते आईच्या घरी राहिले आहे.",
           "उद्या आपण गावाला जाऊ कारण तिथे आता खूप ऊन आहे."),
    "es": ("No sé dónde está mi libro, pero creo que se quedó en la casa de mi madre.",
           "Mañana iremos al pueblo porque allí ahora hace mucho calor."),
    "pt": ("Não sei onde está o meu livro, mas acho que ficou na casa da minha mãe.",
           "Amanhã vamos à aldeia porque lá agora está muito calor."),
    "gl": ("Non sei onde está o meu libro, pero creo que quedou na casa da miña nai.",
           "Mañá iremos á aldea porque alí agora vai moita calor."),
    "it": ("Non so dove sia il mio libro, ma penso che sia rimasto a casa di mia madre.",
           "Domani andremo al paese perché là adesso fa molto caldo."),
    "ca": ("No sé on és el meu llibre, però crec que s'ha quedat a casa de la meva mare.",
           "Demà anirem al poble perquè allà ara hi fa molta calor."),
    "id": ("Saya tidak tahu di mana buku saya, tetapi saya pikir buku itu tertinggal di rumah ibu.",
           "Besok kami akan pergi ke desa karena cuaca di sana sekarang sangat panas."),
    "ms": ("Saya tidak tahu di mana buku saya, tetapi saya rasa buku itu tertinggal di rumah emak.",
           "Esok kami akan pergi ke kampung kerana cuaca di sana sekarang sangat panas."),
    "cs": ("Nevím, kde je moje kniha, ale myslím, že zůstala doma u maminky.",
           "Zítra pojedeme na vesnici, protože je tam teď velmi teplo."),
    "sk": ("Neviem, kde je moja kniha, ale myslím si, že zostala doma u mamy.",
           "Zajtra pôjdeme na dedinu, pretože je tam teraz veľmi teplo."),
    "da": ("Jeg ved ikke, hvor min bog er, men jeg tror, den blev hjemme hos min mor.",
           "I morgen tager vi ud på landet, fordi der nu er meget varmt."),
    "nb": ("Jeg vet ikke hvor boken min er, men jeg tror den ble igjen hjemme hos moren min.",
           "I morgen drar vi ut på landet fordi det nå er veldig varmt der."),
    "sv": ("Jag vet inte var min bok är, men jag tror att den blev kvar hemma hos mamma.",
           "I morgon åker vi ut på landet eftersom det nu är mycket varmt där."),
    "hr": ("Ne znam gdje je moja knjiga, ali mislim da je ostala kod majke u kući.",
           "Sutra ćemo ići na selo jer je tamo sada vrlo toplo."),
    "sl": ("Ne vem, kje je moja knjiga, vendar mislim, da je ostala doma pri mami.",
           "Jutri bomo šli na vas, ker je tam zdaj zelo toplo."),
}  # fmt: skip
PAIRS = [
    *(
        "ru uk",
        "ru bg",
        "ru be",
        "ru mk",
        "ru sr",
        "uk bg",
        "uk be",
        "bg mk",
        "sr mk",
        "ar fa",
        "ar ur",
        "fa ur",
    ),
    *(
        "hi mr",
        "es pt",
        "es gl",
        "es it",
        "es ca",
        "pt gl",
        "pt it",
        "id ms",
        "cs sk",
        "da nb",
        "da sv",
        "nb sv",
    ),
    *("hr sl", "cs sl"),
]
BOTH_WAYS = [tuple(pair.split()) for pair in PAIRS] + [tuple(pair.split()[::-1]) for pair in PAIRS]
# Languages whose sentences are often told from the near one by nothing.
HARD = {
    ("id", "ms"),
    ("ms", "id"),
    ("da", "nb"),
    ("nb", "da"),
    ("es", "gl"),
    ("pt", "gl"),
    ("gl", "es"),
    ("gl", "pt"),
}


def judged(text: str, language: str, judge: Judge | None = None) -> Verdict:
    return (judge or get_judge()).judge(text, language)


def can_be_asked(language: str) -> bool:
    try:
        Judge().target(language)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("language", TEXTS)
def test_text_in_the_language_asked_for_is_never_called_another(language: str) -> None:
    if not can_be_asked(language):
        return
    everyone = tuple(code for code in TEXTS if can_be_asked(code))
    for judge in (Judge(), Judge(candidates=sorted({language, *near(language)} & set(everyone)))):
        outcomes = [judged(text, language, judge).outcome for text in TEXTS[language]]
        assert set(outcomes) <= {"on_target", "undetermined"}
        assert "on_target" in outcomes


def test_a_near_language_is_named_and_hardly_ever_on_target() -> None:
    found = [
        (asked, written, judged(text, asked))
        for asked, written in BOTH_WAYS
        if can_be_asked(asked)
        for text in TEXTS[written]
    ]
    assert len(found) > 80
    passed = {(asked, written) for asked, written, verdict in found if verdict.outcome == "on_target"}
    assert passed <= HARD
    named = sum(verdict.answered_in == written for _, written, verdict in found)
    assert named >= 0.85 * len(found)


@pytest.mark.parametrize("written", ["sl", "hr", "ro", "fi", "hu", "tl", "vi", "so", "eu", "cy"])
def test_a_language_that_is_no_candidate_is_found(written: str) -> None:
    texts = {
        **TEXTS,
        "ro": ("Nu știu unde este cartea mea, dar cred că a rămas acasă la mama.",),
        "fi": ("En tiedä, missä kirjani on, mutta luulen, että se jäi äidin luo kotiin.",),
        "hu": ("Nem tudom, hol van a könyvem, de azt hiszem, hogy anyámnál maradt otthon.",),
        "tl": ("Hindi ko alam kung nasaan ang aking libro, pero sa tingin ko naiwan ito sa bahay ni nanay.",),
        "vi": ("Tôi không biết cuốn sách của tôi ở đâu, nhưng tôi nghĩ nó còn ở nhà mẹ tôi.",),
        "so": (
            "Ma garanayo meesha uu buuggaygu yaallo, laakiin waxaan u malaynayaa inuu ku hadhay guriga hooyo.",
        ),
        "eu": ("Ez dakit non dagoen nire liburua, baina uste dut amaren etxean geratu dela.",),
        "cy": ("Dydw i ddim yn gwybod ble mae fy llyfr, ond rwy'n meddwl ei fod wedi aros yn nhŷ fy mam.",),
    }
    for asked in ("sw", "de", "es"):
        verdict = judged(texts[written][0], asked)
        assert (verdict.outcome, verdict.answered_in) == ("other", written)


SERBIAN = [
    "Beograd je glavni grad Srbije i nalazi se na ušću Save u Dunav.",
    "Ne znam gde je moja knjiga, ali mislim da je ostala kod kuće.",
    "Sutra idemo na selo zato što je tamo sada veoma lepo vreme.",
    "Deca se igraju u bašti iza stare škole, a majka kuva ručak.",
    "Da biste skuvali pirinač, prvo ga operite u hladnoj vodi.",
    "Sunce izlazi na istoku, a zalazi na zapadu svakog dana.",
    "Ova reka je duga i protiče kroz nekoliko evropskih zemalja.",
    "Juče smo gledali film koji mi se nije mnogo dopao.",
    "Molim vas, recite mi koliko košta karta do Novog Sada.",
    "Učenje novog jezika zahteva vreme, strpljenje i svakodnevnu vežbu.",
]


@pytest.mark.parametrize("text", SERBIAN)
@pytest.mark.parametrize("code", ["sr", "sr-Latn", "srp_Latn"])
def test_serbian_in_latin_letters_is_serbian(code: str, text: str) -> None:
    assert judged(text, code).outcome == "on_target"
    assert judged(text, "sw").outcome != "on_target"  # the control


OTHER_SCRIPTS = [
    ("kk", "Men bügin kitaphanağa bardym jäne jaña kitap aldym, biraq ol öte qiyn eken."),
    ("az", "Мән бу ҝүн китабханаја ҝетдим вә јени бир китаб алдым, лакин о чох чәтиндир."),
    ("uz", "Мен бугун кутубхонага бордим ва янги китоб олдим, лекин у жуда қийин экан."),
    ("pa", "میں اج لائبریری گیا تے اک نویں کتاب لئی پر اوہ بہت اوکھی سی۔"),
    ("ms", "ساي ڤرݢي ک سکوله دڠن کاون٢ ساي دان کامي بلاجر برسام."),
]


@pytest.mark.parametrize(("language", "text"), OTHER_SCRIPTS)
def test_another_script_of_a_language_is_never_off_target(language: str, text: str) -> None:
    if can_be_asked(language):
        assert judged(text, language).outcome in ("on_target", "undetermined")


ROMANISED = [
    ("hi", "Main kal bazaar gaya tha lekin mujhe wahan kuch nahi mila."),
    ("hi", "Aapko roz subah jaldi uthna chahiye aur thoda paani peena chahiye."),
    ("hi", "Yeh kitab bahut acchi hai, isliye maine ise do baar padha."),
    ("hi", "Bharat ki rajdhani Nayi Dilli hai aur wahan bahut log rehte hain."),
    ("ar", "Ana la aarif ayna kitabi wa lakin azunnu annahu fi bayt ummi."),
    ("ar", "Sanadhhabu ghadan ila al qarya li anna al jaw hunaka dafi jiddan."),
    ("ar", "Al qahira hiya asimat misr wa ta'ish fiha malayin an-nas."),
    ("ja", "Kinou wa tomodachi to issho ni eiga wo mimashita. Totemo omoshirokatta desu."),
    ("ja", "Nihon no shuto wa Tokyo desu. Jinkou wa oyoso sen yonhyaku man nin desu."),
    ("ja", "Ashita wa ame ga furu node, kasa wo motte itta hou ga ii desu yo."),
    ("zh", "Wo bu zhidao wo de shu zai nali, danshi wo juede ta zai mama jia."),
    ("zh", "Mingtian women yao qu nongcun, yinwei nali xianzai hen nuanhuo."),
    ("zh", "Zhongguo de shoudu shi Beijing, nali you hen duo ren."),
    ("zh", "Nǐ hǎo, wǒ jiào Lǐ Míng, wǒ shì yī gè xuéshēng, wǒ hěn xǐhuān xuéxí."),
    ("ko", "Jeoneun eoje chingureul mannaseo gachi babeul meogeosseumnida."),
    ("ko", "Hangugui sudoneun Seoul imnida. Geugose manheun sarami salgo isseumnida."),
    ("ko", "Naeil biga ol geoyeyo, geuraeseo usaneul gajyeogaya haeyo."),
    ("ru", "Ya ne znayu, gde moya kniga, no dumayu, chto ona ostalas u mamy doma."),
    ("ru", "Zavtra my poyedem v derevnyu, potomu chto tam seychas ochen teplo."),
    ("ru", "Stolitsa Rossii Moskva, i tam zhivyot ochen mnogo lyudey."),
    ("bn", "Ami jani na amar boi kothay, kintu mone hoy eta mayer barite ache."),
    ("bn", "Kal amra gram e jabo karon okhane ekhon khub gorom."),
    ("el", "Den xero pou einai to vivlio mou, alla nomizo oti einai sto spiti tis mamas."),
    ("fa", "Man nemidanam ketabam kojast, ama fekr mikonam dar khane madaram ast."),
    ("uk", "Ya ne znayu, de moya knyzhka, ale dumayu, shcho vona u mamy vdoma."),
    ("th", "Phom mai ru wa nangsue khong phom yu thi nai, tae khit wa yu thi ban mae."),
    ("he", "Ani lo yodea eifo hasefer sheli, aval ani choshev shehu babayit shel ima."),
    ("ta", "En puthagam enga irukku nu enakku theriyala, aana amma veettula irukkum nu nenaikkiren."),
]


@pytest.mark.parametrize(("language", "text"), ROMANISED)
def test_romanised_text_is_called_romanised(language: str, text: str) -> None:
    verdict = judged(text, language)
    assert verdict.outcome == "other"
    assert verdict.answered_in.endswith("Latn")
    if language in ("hi", "ar", "ja", "zh", "ko", "ru"):
        assert verdict.answered_in in (f"{language}-Latn", "Latn")


@pytest.mark.parametrize("asked", ["hi", "ar", "ja", "zh", "ko", "ru", "bn", "th"])
@pytest.mark.parametrize("written", ["en", "de", "es", "fr", "sw", "id", "tr", "it", "pt", "nl", "fi", "vi"])
def test_real_latin_text_is_not_called_romanised(asked: str, written: str) -> None:
    sentences = {
        **TEXTS,
        "en": ("I do not know where my book is, but I think it stayed at my mother's house.",),
        "de": ("Ich weiß nicht, wo mein Buch ist, aber ich glaube, es liegt noch bei meiner Mutter.",),
        "fr": ("Je ne sais pas où est mon livre, mais je crois qu'il est resté chez ma mère.",),
        "sw": ("Sijui kitabu changu kiko wapi, lakini nadhani kilibaki nyumbani kwa mama.",),
        "tr": ("Kitabımın nerede olduğunu bilmiyorum ama galiba annemin evinde kaldı.",),
        "nl": ("Ik weet niet waar mijn boek is, maar ik denk dat het bij mijn moeder thuis ligt.",),
        "fi": ("En tiedä, missä kirjani on, mutta luulen, että se jäi äidin luo kotiin.",),
        "vi": ("Tôi không biết cuốn sách của tôi ở đâu, nhưng tôi nghĩ nó còn ở nhà mẹ tôi.",),
    }
    verdict = judged(sentences[written][0], asked)
    assert verdict.answered_in == written


# Codes as benchmarks write them (XNLI, MGSM, XCOPA, FLORES, Belebele, MMMLU, Global-MMLU, INCLUDE, AfriMMLU, SIB-200).
_CODES = (
    "am km lo si bo ha ig mg rw uz ps ckb mt lb ky tg tk sd om ny jv ceb sn so st su tn ts xh yo zu wo lg ln ti my "
    "or as dv ug tt ba ku gn ht qu ilo nso mi sm fo gd yi ee tw bm fon kg ki lua luo nus kab ast oc scn sc fur lmo vec "
    "lij szl ltg li pap mai bho awa mag hne sat ks sa mni lus kac shn dyu mos umb kmb sg rn ss tum bem ak ban min bug "
    "ace bjn war pag fj crh ace_Arab amh_Ethi khm_Khmr sin_Sinh zsm_Latn yue_Hant arz_Arab prs_Arab swh_Latn ory_Orya "
    "nd to ty hmn gsw shi mey hau ibo kin nya orm tir zul pcm ewe twi nep npi azj lvs als khk plt quy ydd ary acm"
)


@pytest.mark.parametrize("code", _CODES.split())
def test_every_benchmark_code_is_known_or_its_detector_named(code: str) -> None:
    try:
        language = normalise_code(code)
        Judge().target(code)
    except UserError as error:
        message = str(error)
        assert "GlotLID" in message
        assert "did you mean" not in message
    else:
        assert language in LANGUAGES


@pytest.mark.parametrize("code", ["xx", "klingon", "qqq", "e n"])
def test_what_is_no_code_names_no_detector(code: str) -> None:
    with pytest.raises(UserError, match="unknown language code") as caught:
        normalise_code(code)
    assert "GlotLID" not in str(caught.value)
