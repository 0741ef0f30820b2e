"""`python -m benchmarks [NAME ...]`: run benchmarks, each in its own process; the quick ones by default."""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.common import ROOT

QUICK = ("off_target", "judged_replies", "lens_speed", "compare", "extraction", "tasks")
LONG = (
    "large_model",
    "runner",
    "kills",
    "one_token_choices",
    "precision",
    "sweep",
    "generation",
    "probing",
)


def main() -> int:
    """Return the number of benchmarks that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=f"any of: {', '.join(QUICK + LONG)}")
    names = parser.parse_args().names or list(QUICK)
    unknown = set(names) - {*QUICK, *LONG}
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(QUICK + LONG)}")
    failed = [
        n for n in names if subprocess.run([sys.executable, "-m", f"benchmarks.{n}"], cwd=ROOT).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
