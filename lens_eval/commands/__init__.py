"""The `lens` command and its subcommands."""
