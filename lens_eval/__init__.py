"""Multilingual tasks, off-target metric, runners and tables for lm-evaluation-harness; see docs/python.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lens_eval.base.project import VERSION as __version__

if TYPE_CHECKING:
    from lens_eval.base.errors import UserError as UserError
    from lens_eval.face import compare as compare
    from lens_eval.face import load_results as load_results
    from lens_eval.face import write_page as write_page
    from lens_eval.language.files.fields import Fields as Fields
    from lens_eval.language.files.frames import FrameScores as FrameScores
    from lens_eval.language.files.frames import score_frame as score_frame
    from lens_eval.language.files.score import score_files as score_files
    from lens_eval.language.off_target import Judge as Judge
    from lens_eval.language.off_target import Verdict as Verdict
    from lens_eval.language.off_target import judge_texts as judge_texts
    from lens_eval.results.compare import Comparison as Comparison
    from lens_eval.runs.recipe import Recipe as Recipe
    from lens_eval.runs.recipe import load_recipe as load_recipe
    from lens_eval.runs.runner import run as run

__all__ = [
    "Comparison",
    "Fields",
    "FrameScores",
    "Judge",
    "Recipe",
    "UserError",
    "Verdict",
    "__version__",
    "compare",
    "judge_texts",
    "load_recipe",
    "load_results",
    "run",
    "score_files",
    "score_frame",
    "write_page",
]

_WHERE = {
    "Comparison": "lens_eval.results.compare",
    "Fields": "lens_eval.language.files.fields",
    "FrameScores": "lens_eval.language.files.frames",
    "Judge": "lens_eval.language.off_target",
    "Recipe": "lens_eval.runs.recipe",
    "UserError": "lens_eval.base.errors",
    "Verdict": "lens_eval.language.off_target",
    "compare": "lens_eval.face",
    "judge_texts": "lens_eval.language.off_target",
    "load_recipe": "lens_eval.runs.recipe",
    "load_results": "lens_eval.face",
    "run": "lens_eval.runs.runner",
    "score_files": "lens_eval.language.files.score",
    "score_frame": "lens_eval.language.files.frames",
    "write_page": "lens_eval.face",
}
"""Name -> the module that has it, which is imported when the name is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _WHERE[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    return list(__all__)
