"""The commands beside those in `cli.py`, the options that they share, and how they talk: tables, a bar, charts."""
