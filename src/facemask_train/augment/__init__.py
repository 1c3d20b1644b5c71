"""What an augmented copy of an image is: exact turns, pixel steps, edits of labelled faces. Knows no ensemble."""
