"""The methods Lens is compared with: one file per method, all under one data budget."""
