"""Experiment tracking: a small interface, and the process that talks to Weights & Biases."""
