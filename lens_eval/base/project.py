"""This project: its version, and where it lies."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: a checkout, or the `site-packages` of an installation."""
