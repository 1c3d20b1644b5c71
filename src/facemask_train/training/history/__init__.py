"""Results of runs: the rows of `results.csv`, curves, and summaries."""
