"""Augmentation: exact rotations, pixel transforms, and edits of labeled faces. Does not know ensembles."""
