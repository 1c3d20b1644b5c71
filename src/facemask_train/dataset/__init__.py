"""From records to a versioned ensemble: clean, split, plan, write. Knows no model."""
