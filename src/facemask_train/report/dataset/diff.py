"""`fmask diff`: compares two ensembles, in counts and on a page with images."""

from __future__ import annotations

from pathlib import Path

from facemask_train.dataset.contents import page_path, read_contents
from facemask_train.dataset.diff import EnsembleDiff, compare_ensembles
from facemask_train.report import html
from facemask_train.report.dataset.diff_page import diff_page


def diff(root: Path, a: str, b: str) -> EnsembleDiff:
    """Compare two ensembles, and write `data/inspect/A-B.html`.

    Args:
        a, b: name (`v5`), number (`5`) or path of an ensemble.

    Raises:
        MissingError: there is no such ensemble.
        DataError: a table is missing or damaged.
        StorageError: the page cannot be written.
    """
    before, after = read_contents(root, a), read_contents(root, b)
    path = page_path(root, f"{before.name}-{after.name}")
    found = compare_ensembles(before, after, path)
    html.write(path, diff_page(before, after, found))
    return found
