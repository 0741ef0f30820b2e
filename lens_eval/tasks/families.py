"""The families of tasks: where their items lie on the hub, and in which languages there are any."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hub:
    """A data set on the hub: its id and the revision that is read.

    A revision of 40 hexadecimal digits never moves. A ref like `refs/convert/parquet` can: there the hash
    of the rows in the results says what was read.
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
}


# Languages that alexandrainst/m_mmlu lacks and openai/MMMLU has, with the file that holds them.
MMMLU_FILES = {"ja": "JA-JP", "ko": "KO-KR", "sw": "SW-KE"}


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
}


LANGUAGES = {family: tuple(codes.split()) for family, codes in _LANGUAGE_LISTS.items()}
