"""The JSON files of evaluations, audits and comparisons, as frozen records. Above what measures, below the pages."""
