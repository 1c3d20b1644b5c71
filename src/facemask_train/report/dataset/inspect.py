"""Inspect an ensemble: what it holds, in counts and on a page with images (`fmask inspect`). Knows no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.dataset.contents import page_path, read_holdings
from facemask_train.dataset.summary import EnsembleSummary, summarize
from facemask_train.report import html
from facemask_train.report.dataset.duplicates_page import group_sections
from facemask_train.report.dataset.inspect_page import inspection_page


@dataclass(frozen=True, slots=True)
class Inspection:
    """The page, and the figures that it shows."""

    path: Path
    summary: EnsembleSummary


def inspect(root: Path, version: str, *, duplicates: bool = False) -> Inspection:
    """Write `data/inspect/VERSION.html`, or `VERSION-duplicates.html`: what an ensemble holds.

    Args:
        version: a name (`v5`), a number (`5`), or the path of an ensemble.
        duplicates: show the groups of copies in images too.

    Raises:
        MissingError: there is no such ensemble.
        DataError: one of its tables is gone or broken.
        StorageError: the page cannot be written.
    """
    held = read_holdings(root, version)
    summary = summarize(held)
    more = list(group_sections(root, held)) if duplicates else []
    path = page_path(root, f"{held.name}-duplicates" if duplicates else held.name)
    html.write(path, inspection_page(held, summary, more))
    return Inspection(path, summary)
