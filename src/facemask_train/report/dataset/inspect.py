"""`fmask inspect`: summarizes an ensemble, in figures and on a page with images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.dataset.contents import page_path, read_contents
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
    """Summarize an ensemble, and write `data/inspect/VERSION.html` or `VERSION-duplicates.html`.

    Args:
        version: name (`v5`), number (`5`) or path of an ensemble.
        duplicates: also show the images of the groups of duplicates.

    Raises:
        MissingError: there is no such ensemble.
        DataError: a table is missing or damaged.
        StorageError: the page cannot be written.
    """
    contents = read_contents(root, version)
    summary = summarize(contents)
    more = list(group_sections(root, contents)) if duplicates else []
    path = page_path(root, f"{contents.name}-duplicates" if duplicates else contents.name)
    html.write(path, inspection_page(contents, summary, more))
    return Inspection(path, summary)
