"""Perturbations that the audit draws onto faces, and the rate at which they flip a prediction."""
