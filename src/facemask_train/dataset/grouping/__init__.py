"""Finds duplicates and near-duplicates, and assigns each group of them to one split."""
