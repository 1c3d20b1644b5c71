"""Builds ensembles from fetched sources, and reads, summarizes and compares them. Does not import torch."""
