"""The edits with which the audit asks, each drawn over one face. Knows images and boxes, no model."""
