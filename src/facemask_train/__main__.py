"""`python -m facemask_train` is `fmask`."""

from facemask_train.cli import main

main()
