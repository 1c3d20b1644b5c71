"""Detectors: the adapter to `ultralytics`, checkpoints, backends, export. Does not read runs or write reports."""
