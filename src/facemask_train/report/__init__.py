"""What was measured, in words, charts, galleries and pages. Computes no score."""
