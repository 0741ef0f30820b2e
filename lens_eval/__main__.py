"""`python -m lens_eval`: the `lens` command, where a launcher wants a module."""

from __future__ import annotations

from lens_eval.commands.cli import main

if __name__ == "__main__":
    main()
