"""Many settings trained over one trunk, and the choice among them."""
