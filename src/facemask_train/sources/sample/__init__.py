"""The built-in sample: drawn scenes, packed as archives in the published layouts."""
