"""What every other package uses: records, boxes, files, settings, processes. Independent of formats and models."""
