"""Compare two ensembles: what changed, in counts and on a page with images (`fmask diff`). Knows no model."""

from __future__ import annotations

from pathlib import Path

from facemask_train.dataset.contents import page_path, read_holdings
from facemask_train.dataset.diff import Difference, compare
from facemask_train.report import html
from facemask_train.report.dataset.diff_page import difference_page


def diff(root: Path, a: str, b: str) -> Difference:
    """Compare two ensembles, and write `data/inspect/A-B.html`.

    Args:
        a, b: a name (`v5`), a number (`5`), or the path of an ensemble.

    Raises:
        MissingError: there is no such ensemble.
        DataError: one of their tables is gone or broken.
        StorageError: the page cannot be written.
    """
    before, after = read_holdings(root, a), read_holdings(root, b)
    path = page_path(root, f"{before.name}-{after.name}")
    found = compare(before, after, path)
    html.write(path, difference_page(before, after, found))
    return found
