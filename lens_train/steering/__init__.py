"""Steering without training."""
