"""The methods that Lens is compared with: one file per method, all with the same data budget."""
