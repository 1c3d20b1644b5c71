"""What was trained: results by epoch, curves, and summaries of runs."""
