"""A run for other programs, one file for each."""
