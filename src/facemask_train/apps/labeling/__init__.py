"""A local page on which a person answers questions about images: each answer is saved at once."""
