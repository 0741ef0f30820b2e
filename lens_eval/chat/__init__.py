"""Models asked in person: their answers side by side, each with a verdict, in the terminal or on a page."""
