"""Control of the answer's language while tokens are chosen; no weight and no hidden state changes."""
