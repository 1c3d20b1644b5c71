"""`python -m facemask_train` is `fmask`."""

from facemask_train.cli.app import main

main()
