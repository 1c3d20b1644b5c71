"""Metrics: labels and detections in, numbers with confidence intervals out. Does not read runs or write pages."""
