"""The device data loader: which images form a batch, and how its pixels are rendered."""
