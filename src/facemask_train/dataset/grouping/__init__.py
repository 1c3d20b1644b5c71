"""Which images show the same photograph or scene, and which split each group goes to."""
