"""What tests share: fakes, tiny worlds, and checkpoints with known answers."""
