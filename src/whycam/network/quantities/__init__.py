"""Quantities that take more than the one recording: a file for each."""
