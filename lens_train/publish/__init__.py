"""A variant folder made fit to be handed on: its model card, the base's licence, and the way to the hub."""
