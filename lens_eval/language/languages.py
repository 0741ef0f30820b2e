"""The one table of languages: codes, names, scripts, digits, and every spelling of a code in use.

Covers the languages of the benchmarks in use, from XNLI and MGSM to FLORES, and those lingua knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from lens_eval.base.errors import UserError, did_you_mean

ASCII_DIGITS = "0123456789"


@dataclass(frozen=True)
class Language:
    """One language.

    `code` is ISO 639-1 where that exists; `scripts` are ISO 15924 codes, the usual one first; `direction` is
    "ltr" or "rtl"; `digits` are the ten digits 0-9 of its own script ("0123456789" where it has none);
    `aliases` are other codes and labels for it, in lower case.
    """

    code: str
    name: str
    native_name: str
    scripts: tuple[str, ...]
    direction: str
    digits: str
    aliases: tuple[str, ...]


_DIGITS = {
    "ar": "٠١٢٣٤٥٦٧٨٩",
    "fa": "۰۱۲۳۴۵۶۷۸۹",
    "ur": "۰۱۲۳۴۵۶۷۸۹",
    "hi": "०१२३४५६७८९",
    "mr": "०१२३४५६७८९",
    "ne": "०१२३४५६७८९",
    "bn": "০১২৩৪৫৬৭৮৯",
    "pa": "੦੧੨੩੪੫੬੭੮੯",
    "gu": "૦૧૨૩૪૫૬૭૮૯",
    "ta": "௦௧௨௩௪௫௬௭௮௯",
    "te": "౦౧౨౩౪౫౬౭౮౯",
    "kn": "೦೧೨೩೪೫೬೭೮೯",
    "ml": "൦൧൨൩൪൫൬൭൮൯",
    "th": "๐๑๒๓๔๕๖๗๘๙",
    "my": "၀၁၂၃၄၅၆၇၈၉",
}

# code | name | native name | scripts | other codes (ISO 639-2/3, members, what data sets and detectors write)
_TABLE = """
af | Afrikaans | Afrikaans | Latn | afr
am | Amharic | አማርኛ | Ethi | amh
ar | Arabic | العربية | Arab | ara arb ary arz apc acm acq aeb ajp ars apd mey
as | Assamese | অসমীয়া | Beng | asm
az | Azerbaijani | azərbaycanca | Latn | aze azj azb
ba | Bashkir | башҡортса | Cyrl | bak
be | Belarusian | беларуская | Cyrl | bel
bg | Bulgarian | български | Cyrl | bul
bn | Bengali | বাংলা | Beng | ben bangla
bo | Tibetan | བོད་སྐད | Tibt | bod tib
bs | Bosnian | bosanski | Latn | bos
ca | Catalan | català | Latn | cat
cs | Czech | čeština | Latn | ces cze
cy | Welsh | Cymraeg | Latn | cym wel
da | Danish | dansk | Latn | dan
de | German | Deutsch | Latn | deu ger
dv | Divehi | ދިވެހި | Thaa | div
dz | Dzongkha | རྫོང་ཁ | Tibt | dzo
el | Greek | Ελληνικά | Grek | ell gre
en | English | English | Latn | eng
eo | Esperanto | Esperanto | Latn | epo
es | Spanish | español | Latn | spa castilian
et | Estonian | eesti | Latn | est ekk
eu | Basque | euskara | Latn | eus baq
fa | Persian | فارسی | Arab | fas per pes prs farsi
fi | Finnish | suomi | Latn | fin
fo | Faroese | føroyskt | Latn | fao
fr | French | français | Latn | fra fre
ga | Irish | Gaeilge | Latn | gle
gd | Scottish Gaelic | Gàidhlig | Latn | gla
gl | Galician | galego | Latn | glg
gn | Guarani | avañe'ẽ | Latn | grn
gu | Gujarati | ગુજરાતી | Gujr | guj
ha | Hausa | Hausa | Latn | hau
he | Hebrew | עברית | Hebr | heb iw
hi | Hindi | हिन्दी | Deva | hin
hr | Croatian | hrvatski | Latn | hrv
ht | Haitian Creole | kreyòl ayisyen | Latn | hat haitian
hu | Hungarian | magyar | Latn | hun
hy | Armenian | հայերեն | Armn | hye arm
id | Indonesian | Bahasa Indonesia | Latn | ind
ig | Igbo | Igbo | Latn | ibo
is | Icelandic | íslenska | Latn | isl ice
it | Italian | italiano | Latn | ita
ja | Japanese | 日本語 | Hira,Kana,Hani | jpn jp
jv | Javanese | Basa Jawa | Latn | jav
ka | Georgian | ქართული | Geor | kat geo
kk | Kazakh | қазақ тілі | Cyrl | kaz
km | Khmer | ខ្មែរ | Khmr | khm
kn | Kannada | ಕನ್ನಡ | Knda | kan
ko | Korean | 한국어 | Hang,Hani | kor kr
ku | Kurdish | kurdî | Latn | kur kmr kurmanji
ky | Kyrgyz | кыргызча | Cyrl | kir
la | Latin | Latina | Latn | lat
lb | Luxembourgish | Lëtzebuergesch | Latn | ltz
lg | Ganda | Luganda | Latn | lug
ln | Lingala | lingála | Latn | lin
lo | Lao | ລາວ | Laoo | lao
lt | Lithuanian | lietuvių | Latn | lit
lv | Latvian | latviešu | Latn | lav lvs
mg | Malagasy | Malagasy | Latn | mlg plt
mi | Maori | te reo Māori | Latn | mri mao
mk | Macedonian | македонски | Cyrl | mkd mac
ml | Malayalam | മലയാളം | Mlym | mal
mn | Mongolian | монгол | Cyrl | mon khk
mr | Marathi | मराठी | Deva | mar
ms | Malay | Bahasa Melayu | Latn | msa may zsm
mt | Maltese | Malti | Latn | mlt
my | Burmese | မြန်မာ | Mymr | mya bur
nb | Norwegian Bokmål | bokmål | Latn | nob no nor norwegian bokmal
ne | Nepali | नेपाली | Deva | nep npi
nl | Dutch | Nederlands | Latn | nld dut
nn | Norwegian Nynorsk | nynorsk | Latn | nno
ny | Nyanja | Chichewa | Latn | nya chichewa
om | Oromo | Afaan Oromoo | Latn | orm gaz
or | Odia | ଓଡ଼ିଆ | Orya | ori ory oriya
pa | Punjabi | ਪੰਜਾਬੀ | Guru | pan
pl | Polish | polski | Latn | pol
ps | Pashto | پښتو | Arab | pus pbt pbu
pt | Portuguese | português | Latn | por
qu | Quechua | Runasimi | Latn | que quy quz
ro | Romanian | română | Latn | ron rum mo
ru | Russian | русский | Cyrl | rus
rw | Kinyarwanda | Ikinyarwanda | Latn | kin
sd | Sindhi | سنڌي | Arab | snd
si | Sinhala | සිංහල | Sinh | sin sinhalese
sk | Slovak | slovenčina | Latn | slk slo
sl | Slovenian | slovenščina | Latn | slv slovene
sm | Samoan | Gagana Samoa | Latn | smo
sn | Shona | chiShona | Latn | sna
so | Somali | Soomaali | Latn | som
sq | Albanian | shqip | Latn | sqi alb als aln
sr | Serbian | српски | Cyrl,Latn | srp
ss | Swati | siSwati | Latn | ssw
st | Sotho | Sesotho | Latn | sot
su | Sundanese | Basa Sunda | Latn | sun
sv | Swedish | svenska | Latn | swe
sw | Swahili | Kiswahili | Latn | swh swa swc
ta | Tamil | தமிழ் | Taml | tam
te | Telugu | తెలుగు | Telu | tel
tg | Tajik | тоҷикӣ | Cyrl | tgk
th | Thai | ไทย | Thai | tha
ti | Tigrinya | ትግርኛ | Ethi | tir
tk | Turkmen | türkmençe | Latn | tuk
tl | Tagalog | Tagalog | Latn | tgl fil filipino
tn | Tswana | Setswana | Latn | tsn
tr | Turkish | Türkçe | Latn | tur
ts | Tsonga | Xitsonga | Latn | tso
tt | Tatar | татарча | Cyrl | tat
ug | Uyghur | ئۇيغۇرچە | Arab | uig
uk | Ukrainian | українська | Cyrl | ukr
ur | Urdu | اردو | Arab | urd
uz | Uzbek | oʻzbekcha | Latn | uzb uzn
vi | Vietnamese | Tiếng Việt | Latn | vie
wo | Wolof | Wolof | Latn | wol
xh | Xhosa | isiXhosa | Latn | xho
yi | Yiddish | ייִדיש | Hebr | yid ydd
yo | Yoruba | Yorùbá | Latn | yor
zh | Chinese | 中文 | Hani | zho chi cmn yue wuu cn mandarin
zu | Zulu | isiZulu | Latn | zul
ceb | Cebuano | Cebuano | Latn | cebuano
ckb | Central Kurdish | کوردی | Arab | sorani
ilo | Iloko | Ilokano | Latn | ilocano
nso | Northern Sotho | Sesotho sa Leboa | Latn | sepedi
"""

# Further languages of benchmarks (FLORES, SIB, Belebele, AfriMMLU, IndicGenBench, NusaX, AmericasNLI, TUMLU),
# which lingua does not know: their responses are judged with a fastText model.
_FURTHER_TABLE = """
ak | Akan | Akan | Latn | aka twi tw
ay | Aymara | Aymar aru | Latn | aym ayr
bm | Bambara | Bamanankan | Latn | bam
br | Breton | brezhoneg | Latn | bre
cv | Chuvash | чӑвашла | Cyrl | chv
ee | Ewe | Eʋegbe | Latn | ewe
ff | Fula | Fulfulde | Latn | ful fuv fuc
fj | Fijian | Na Vosa Vakaviti | Latn | fij
fy | West Frisian | Frysk | Latn | fry
kg | Kongo | Kikongo | Latn | kon
ki | Kikuyu | Gĩkũyũ | Latn | kik
ks | Kashmiri | کٲشُر | Arab,Deva | kas
li | Limburgish | Limburgs | Latn | lim
nd | North Ndebele | isiNdebele saseNyakatho | Latn | nde
nr | South Ndebele | isiNdebele | Latn | nbl
oc | Occitan | occitan | Latn | oci
rn | Rundi | Ikirundi | Latn | run
sa | Sanskrit | संस्कृतम् | Deva | san
sc | Sardinian | sardu | Latn | srd
sg | Sango | Sängö | Latn | sag
to | Tongan | lea faka-Tonga | Latn | ton
ty | Tahitian | reo Tahiti | Latn | tah
ve | Venda | Tshivenḓa | Latn | ven
ace | Acehnese | Bahsa Acèh | Latn,Arab |
ast | Asturian | asturianu | Latn |
awa | Awadhi | अवधी | Deva |
ban | Balinese | Basa Bali | Latn |
bbc | Toba Batak | Batak Toba | Latn |
bem | Bemba | Ichibemba | Latn |
bho | Bhojpuri | भोजपुरी | Deva |
bjn | Banjar | Bahasa Banjar | Latn,Arab |
brx | Bodo | बर' | Deva |
bug | Buginese | Basa Ugi | Latn |
bzd | Bribri | Bribri | Latn |
cjk | Chokwe | Chokwe | Latn |
cni | Asháninka | Asháninka | Latn |
crh | Crimean Tatar | qırımtatarca | Latn |
din | Dinka | Thuɔŋjäŋ | Latn | dik
doi | Dogri | डोगरी | Deva |
dyu | Dyula | Julakan | Latn |
fon | Fon | Fɔngbè | Latn |
fur | Friulian | furlan | Latn |
gom | Konkani | कोंकणी | Deva | kok
gsw | Swiss German | Schwiizerdütsch | Latn |
hch | Huichol | Wixárika | Latn | wixarika
hne | Chhattisgarhi | छत्तीसगढ़ी | Deva |
hmn | Hmong | Hmoob | Latn | mww
kaa | Karakalpak | qaraqalpaqsha | Latn |
kab | Kabyle | Taqbaylit | Latn |
kac | Jingpho | Jingpho | Latn |
kam | Kamba | Kikamba | Latn |
kbp | Kabiyè | Kabɩyɛ | Latn |
kea | Kabuverdianu | kabuverdianu | Latn |
kmb | Kimbundu | Kimbundu | Latn |
knc | Kanuri | Kanuri | Latn | kau
lij | Ligurian | ligure | Latn |
lmo | Lombard | lombard | Latn |
ltg | Latgalian | latgalīšu | Latn |
lua | Luba-Kasai | Tshiluba | Latn |
luo | Luo | Dholuo | Latn |
lus | Mizo | Mizo ṭawng | Latn |
mad | Madurese | Madhurâ | Latn |
mag | Magahi | मगही | Deva |
mai | Maithili | मैथिली | Deva |
min | Minangkabau | Baso Minangkabau | Latn,Arab |
mni | Manipuri | মৈতৈলোন্ | Beng | meitei
mos | Mossi | Mooré | Latn |
nah | Nahuatl | Nāhuatl | Latn | nhe nhi
nij | Ngaju | Ngaju | Latn |
nus | Nuer | Thok Naath | Latn |
oto | Otomi | Hñähñu | Latn | ote
pag | Pangasinan | Pangasinan | Latn |
pam | Kapampangan | Kapampangan | Latn |
pap | Papiamento | Papiamentu | Latn |
pcm | Nigerian Pidgin | Naijá | Latn |
sah | Yakut | саха тыла | Cyrl |
sat | Santali | ᱥᱟᱱᱛᱟᱲᱤ | Olck |
scn | Sicilian | sicilianu | Latn |
shi | Tachelhit | Taclḥit | Latn |
shn | Shan | ၵႂၢမ်းတႆး | Mymr |
shp | Shipibo-Conibo | Shipibo-Konibo | Latn |
szl | Silesian | ślōnski | Latn |
taq | Tamasheq | Tamasheq | Latn,Tfng |
tar | Rarámuri | Rarámuri | Latn |
tpi | Tok Pisin | Tok Pisin | Latn |
tum | Tumbuka | chiTumbuka | Latn |
tzm | Tamazight | ⵜⴰⵎⴰⵣⵉⵖⵜ | Tfng | zgh ber
umb | Umbundu | Umbundu | Latn |
vai | Vai | ꕙꔤ | Vaii |
vec | Venetian | vèneto | Latn |
war | Waray | Winaray | Latn |
"""

_RIGHT_TO_LEFT = {"Arab", "Hebr", "Thaa"}

# Scripts that a language is also written in; `Language.scripts` has them behind the usual ones.
OTHER_SCRIPTS: dict[str, tuple[str, ...]] = {
    "az": ("Cyrl",),
    "kk": ("Latn",),
    "ms": ("Arab",),
    "pa": ("Arab",),
    "uz": ("Cyrl",),
}

# Languages so close that a text in one is easily taken for another; each is a candidate where another is.
NEAR: tuple[frozenset[str], ...] = tuple(
    frozenset(codes.split())
    for codes in (
        "es pt gl ca it",
        "fr ca it",
        "de nl lb af",
        "id ms jv su",
        "cs sk pl sl",
        "hr bs sr sl",
        "da nb nn sv",
        "ru uk be bg mk sr",
        "kk ky tt ba",
        "ar fa ur ps ckb sd ug",
        "hi mr ne",
        "bn as",
        "am ti",
        "zu xh ss",
        "st tn nso",
        "az tr tk uz",
        "et fi",
        "lt lv",
        "sw lg ny sn rw",
    )
)


@lru_cache(maxsize=1024)
def near(code: str) -> frozenset[str]:
    """Return the languages that are close to one, without itself."""
    return frozenset().union(*(group for group in NEAR if code in group)) - {code}


def _read_table() -> dict[str, Language]:
    languages = {}
    for row in (_TABLE + _FURTHER_TABLE).split("\n"):
        if not row:
            continue
        code, name, native_name, scripts, aliases = (cell.strip() for cell in row.split("|"))
        script_codes = (*scripts.split(","), *OTHER_SCRIPTS.get(code, ()))
        languages[code] = Language(
            code=code,
            name=name,
            native_name=native_name,
            scripts=script_codes,
            direction="rtl" if script_codes[0] in _RIGHT_TO_LEFT else "ltr",
            digits=_DIGITS.get(code, ASCII_DIGITS),
            aliases=tuple(aliases.split()),
        )
    return languages


LANGUAGES: dict[str, Language] = _read_table()
# Languages whose text in a script is not expected where nothing else names one that uses it.
RARE: frozenset[str] = frozenset(row.split(" |")[0] for row in _FURTHER_TABLE.strip().splitlines())

# The languages of the paper and of its reviews: the closed set where nobody names another.
DEFAULT_LANGUAGES: tuple[str, ...] = ("en", "zh", "ja", "ko", "ar", "bn", "sw", "es", "fr", "de", "ru", "th")

_SPELLINGS: dict[str, str] = {
    spelling: language.code
    for language in LANGUAGES.values()
    for spelling in (
        *language.aliases,
        language.native_name.casefold(),
        language.name.casefold(),
        language.code,
    )
}

_SUBTAG = re.compile(r"[-_.\s(]+")


@lru_cache(maxsize=4096)
def find_code(code: str) -> str | None:
    """Return the project's code for any spelling of a language code, or None if there is none."""
    spelling = code.strip().casefold().removeprefix("__label__")
    if spelling in _SPELLINGS:
        return _SPELLINGS[spelling]
    # What follows the first subtag is a script or a region: zh-cn, zho_Hans, pt-BR, Chinese (simplified).
    return _SPELLINGS.get(_SUBTAG.split(spelling, maxsplit=1)[0])


def normalise_code(code: str) -> str:
    """Return the project's code for a language code of any common system.

    Understands ISO 639-1/2/3, region and script subtags, FLORES codes, and English names: `zh-cn`,
    `zho_Hans`, `cmn`, `jp`, `swh`, `EN`, `Swahili`. Raises `UserError` for anything else.
    """
    found = find_code(code) if isinstance(code, str) else None
    if found is None:
        known = ", ".join(LANGUAGES)
        hint = did_you_mean(str(code).casefold(), _SPELLINGS)
        raise UserError(f"unknown language code {code!r}{hint}; known: {known}")
    return found


def get_language(code: str) -> Language:
    """Return the language of a code in any common system; raises `UserError` for an unknown one."""
    return LANGUAGES[normalise_code(code)]


def chinese_script(code: str) -> str | None:
    """Return "Hans" or "Hant" where a code for Chinese names the script or implies it, else None."""
    subtags = {part.strip(")") for part in _SUBTAG.split(code.casefold())}
    if subtags & {"hant", "tw", "hk", "mo", "traditional"}:
        return "Hant"
    if subtags & {"hans", "cn", "sg", "simplified"} and subtags != {"cn"}:
        return "Hans"
    return None
