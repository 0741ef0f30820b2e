"""Lens (arXiv 2410.04407): language subspaces, three losses, and training of the top layers."""
