"""Detectors: the door to `ultralytics`, checkpoints, backends, export. Does not read runs or write reports."""
