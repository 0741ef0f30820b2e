"""Many settings over one trunk, and the choice among them."""
