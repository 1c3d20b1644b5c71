"""Evaluation of trained models: metrics, images of errors, and a report."""
