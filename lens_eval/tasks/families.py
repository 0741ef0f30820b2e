"""The families of tasks: where their items lie on the hub, and in which languages there are any."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hub:
    """A data set on the hub: its id and the revision that is read.

    A revision of 40 hexadecimal digits never moves. A ref like `refs/convert/parquet` or `main` can: there
    the hash of the rows in the results says what was read.
    """

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


HUB: dict[str, Hub] = {
    "xnli": Hub("facebook/xnli", "b8dd5d7af51114dbda02c0e3f6133f332186418e"),
    "mgsm": Hub("juletxara/mgsm", "b2f13d426afe3be8d69a7e739b36724db8b66bbc"),
    "xcopa": Hub("cambridgeltl/xcopa", "042f78955ba48e6404616762fa6e05e839c3907a"),
    "copa": Hub("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"),
    "xwinograd": Hub("Muennighoff/xwinograd", "refs/pr/4"),
    "xstorycloze": Hub("juletxara/xstory_cloze", "c4c2d88a1ec8b37fe22166d2a610f272726724b6"),
    "m_mmlu": Hub("alexandrainst/m_mmlu", "refs/convert/parquet"),
    "mmmlu": Hub("openai/MMMLU", "038c7808122969ead7456361af05cb8f47d247f8"),
    "kmmlu": Hub("HAERAE-HUB/KMMLU", "refs/convert/parquet"),
    "global_mgsm": Hub("CohereLabs/global-mgsm", "29087245a1a9788d4e0413f4927e994d49633bbb"),
    "polymath": Hub("Qwen/PolyMath", "main"),
    "global_mmlu": Hub("CohereLabs/Global-MMLU", "main"),
    "global_mmlu_lite": Hub("CohereLabs/Global-MMLU-Lite", "main"),
    "include": Hub("CohereLabs/include-base-44", "main"),
    "belebele": Hub("facebook/belebele", "main"),
    "mmlu_prox": Hub("li-lab/MMLU-ProX", "main"),
    "mmlu_prox_lite": Hub("li-lab/MMLU-ProX-Lite", "main"),
}


# Languages that alexandrainst/m_mmlu lacks and openai/MMMLU has, with the file that holds them.
MMMLU_FILES = {"ja": "JA-JP", "ko": "KO-KR", "sw": "SW-KE"}


# The sources of the Language Confusion Benchmark, and the languages of each; cross-lingual ones share theirs.
LCB_SOURCES = {
    "monolingual": {
        "aya": "en zh ar pt tr",
        "dolly": "ar es fr hi ru",
        "native": "ja ko es fr",
        "okapi": "en zh ar es fr de id it pt vi",
    },
    "crosslingual": dict.fromkeys(
        ("okapi", "sharegpt", "complex_prompts"), "zh ja ko ar es fr de ru hi id it pt tr vi"
    ),
}
LCB_FAMILIES = {
    f"lcb_{setting}_{source}": languages
    for setting, sources in LCB_SOURCES.items()
    for source, languages in sources.items()
}

# The levels of PolyMath, and how much a right answer counts in its weighted accuracy.
POLYMATH_WEIGHTS = {"low": 1, "medium": 2, "high": 4, "top": 8}
POLYMATH_FAMILIES = tuple(f"polymath_{level}" for level in POLYMATH_WEIGHTS)

# The names of include-base-44's configurations.
INCLUDE_NAMES = {"mk": "North Macedonian"}

# Belebele's variants whose words are those of a language's standard form: the same script is needed.
_STANDARD_VARIANTS = """
af=afr_Latn sq=als_Latn am=amh_Ethi az=azj_Latn bn=ben_Beng bg=bul_Cyrl ca=cat_Latn cs=ces_Latn
da=dan_Latn de=deu_Latn el=ell_Grek en=eng_Latn et=est_Latn eu=eus_Latn fi=fin_Latn fr=fra_Latn
gu=guj_Gujr ht=hat_Latn ha=hau_Latn he=heb_Hebr hi=hin_Deva hr=hrv_Latn hu=hun_Latn hy=hye_Armn
ig=ibo_Latn id=ind_Latn is=isl_Latn it=ita_Latn ja=jpn_Jpan kn=kan_Knda ka=kat_Geor kk=kaz_Cyrl
mn=khk_Cyrl ky=kir_Cyrl ko=kor_Hang lt=lit_Latn lv=lvs_Latn ml=mal_Mlym mr=mar_Deva mk=mkd_Cyrl
my=mya_Mymr nl=nld_Latn nb=nob_Latn ne=npi_Deva ny=nya_Latn pa=pan_Guru fa=pes_Arab mg=plt_Latn
pl=pol_Latn pt=por_Latn ro=ron_Latn ru=rus_Cyrl si=sin_Sinh sk=slk_Latn sl=slv_Latn sn=sna_Latn
so=som_Latn es=spa_Latn sr=srp_Cyrl sv=swe_Latn sw=swh_Latn ta=tam_Taml te=tel_Telu tl=tgl_Latn
th=tha_Thai tr=tur_Latn uk=ukr_Cyrl ur=urd_Arab uz=uzn_Latn vi=vie_Latn xh=xho_Latn yo=yor_Latn
zh=zho_Hans ms=zsm_Latn zu=zul_Latn
"""
_VARIANT_PAIRS = [pair.split("=") for pair in _STANDARD_VARIANTS.split()]
BELEBELE_VARIANTS: dict[str, tuple[str, ...]] = {
    "ar": ("arb_Arab", "acm_Arab", "apc_Arab", "ars_Arab", "ary_Arab", "arz_Arab"),
    **{language: (variant,) for language, variant in _VARIANT_PAIRS},
}

# The languages of each family, those of the paper first.
_LANGUAGE_LISTS = {
    "xnli": "en zh ar sw es fr de ru th bg el hi tr ur vi",
    "mgsm": "en zh ja bn sw es fr de ru th te",
    "xcopa": "en zh sw et ht id it qu ta th tr vi",
    "xwinograd": "en zh ja fr pt ru",
    "xstorycloze": "en zh ar sw es eu hi id my ru te",
    "mmlu": "en zh ja ko ar bn sw es fr de ru ca da eu gu hi hr hu hy id is it kn ml mr nb ne nl pt ro sk sr "
    "sv ta te uk vi",
    "kmmlu": "ko",
    "mtbench": "en zh ja ko ar bn es fr de th",
    "global_mgsm": "ar ko ca cs el eu gu hu kn ne sr ta ur vi yo zu",
    **LCB_FAMILIES,
    **dict.fromkeys(POLYMATH_FAMILIES, "en zh ja ko ar bn sw es fr de ru th id it ms pt te vi"),
    "global_mmlu": "en zh ja ko ar bn sw es fr de ru am cs el fa ha he hi id ig it ky lt mg ms ne nl ny pl "
    "pt ro si sn so sr sv te tl tr uk vi yo",
    "global_mmlu_lite": "en zh ja ko ar bn sw es fr de hi id it pt yo",
    "include": "zh ja ko ar bn es fr de ru az be bg el et eu fa fi he hi hr hu hy id it ka kk lt mk ml ms ne "
    "nl pl pt sq sr ta te tl tr uk ur uz vi",
    "belebele": " ".join(BELEBELE_VARIANTS),
    **dict.fromkeys(
        ("mmlu_prox", "mmlu_prox_lite"),
        "en zh ja ko ar bn sw es fr de ru th af cs hi hu id it mr ne pt sr te uk ur vi yo zu",
    ),
}


LANGUAGES = {family: tuple(codes.split()) for family, codes in _LANGUAGE_LISTS.items()}
