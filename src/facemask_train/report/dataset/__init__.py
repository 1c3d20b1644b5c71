"""What an ensemble holds and what changed between two, in counts and on pages with images. Knows no model."""
