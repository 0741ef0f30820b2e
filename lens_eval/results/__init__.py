"""Results folders read, compared, and written as tables."""
