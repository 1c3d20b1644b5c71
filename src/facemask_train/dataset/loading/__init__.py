"""Reads fetched sources: examines image files, and turns published rows into validated annotations."""
