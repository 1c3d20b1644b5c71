"""Detectors: the door to `ultralytics`, checkpoints, backends, export. Knows no runs and no reports."""
