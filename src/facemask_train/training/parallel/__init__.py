"""Training on several devices and machines: launcher, rendezvous, and what each process does."""
