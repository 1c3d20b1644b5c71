"""The edits with which the audit asks, each drawn over one face. Knows pictures and boxes, no model."""
