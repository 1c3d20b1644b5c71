"""What an augmented copy of a picture is: exact turns, pixel steps, edits of labelled faces. Knows no ensemble."""
