"""fmask: from Kaggle archives to a scored face-mask detector, in one command line."""

__version__ = "0.1.0"
