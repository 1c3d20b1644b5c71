"""The pages of `fmask inspect` and `fmask diff`. Does not import torch."""
