"""What every room builds on: records, boxes, files, settings, processes. Knows no file format and no model."""
