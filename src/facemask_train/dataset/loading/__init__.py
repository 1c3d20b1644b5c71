"""From a source's files to validated records, with an outcome for every file and row."""
