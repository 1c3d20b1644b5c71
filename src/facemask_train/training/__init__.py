"""From an ensemble to a trained checkpoint and the records of its run. Does not evaluate."""
