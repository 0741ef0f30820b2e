"""Multilingual tasks, off-target metric, runners and tables for lm-evaluation-harness."""

from lens_eval.base.project import VERSION as __version__

__all__ = ["__version__"]
