"""Multilingual tasks, off-target metric, runners and tables for lm-evaluation-harness."""

__version__ = "0.1.0"
