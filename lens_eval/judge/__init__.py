"""Grades for open answers, from a model behind an endpoint."""
