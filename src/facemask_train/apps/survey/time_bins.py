"""Where and when an image was taken, and which images belong together. Knows names, clocks and tables: no pixels.

A place and a time come from a table (`--places`), from names (`--pattern`), from the camera's own note in the file
(EXIF), or, for a video, from its clock and its start (`--start`). The first that says something counts.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from facemask_train.core.errors import DataError, MissingError, UsageError, nearest

COLUMNS = ("file", "place", "time")
CLUSTER_SECONDS = 60.0
"""Seconds that images of one place, or frames of one video, count as one moment: the same people are in them."""

_CUTS: dict[str, Callable[[datetime], datetime]] = {
    "minute": lambda t: t.replace(second=0, microsecond=0),
    "hour": lambda t: t.replace(minute=0, second=0, microsecond=0),
    "day": lambda t: t.replace(hour=0, minute=0, second=0, microsecond=0),
    "week": lambda t: _CUTS["day"](t) - timedelta(days=t.weekday()),
    "month": lambda t: _CUTS["day"](t).replace(day=1),
    "all": lambda _: datetime.min,
}
BY = tuple(_CUTS)
_SHOWN = {"minute": "%Y-%m-%d %H:%M", "hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3}


@dataclass(frozen=True, slots=True)
class Moment:
    """Where and when. `clock`: the time is one of the day, not the day alone; `exact`: it is this very image's."""

    place: str = ""
    time: datetime | None = None
    clock: bool = False
    exact: bool = False

    def or_else(self, other: Moment) -> Moment:
        """Return this, with what it does not say taken from another."""
        return replace(self if self.time else other, place=self.place or other.place)


@dataclass(frozen=True, slots=True, order=True)
class Bin:
    """A place and the beginning of a time bin, both as text; empty where they are not known."""

    place: str
    time: str


@dataclass(frozen=True, eq=False, slots=True)
class Calendar:
    """All that tells where and when a file was made.

    Attributes:
        by: how long a bin is, one of `BY`.
        table: rows (a name, or a glob over names; what is said of it), the first that fits counts.
        pattern: for names, as `pattern_of` returns it.
        start: when the videos begin.
        cluster_seconds: seconds that count as one moment.
    """

    by: str = "day"
    table: Sequence[tuple[str, Moment]] = ()
    pattern: Callable[[str], Moment] | None = None
    start: datetime | None = None
    cluster_seconds: float = CLUSTER_SECONDS

    def moment(self, name: str, taken: datetime | None, seconds: float | None) -> Moment:
        """Return where and when an image was taken.

        Args:
            name: of the file, as `media.Source.name`.
            taken: what the camera says.
            seconds: since the beginning of the video; None for an image.
        """
        said = next((moment for row, moment in self.table if _fits(row, name)), Moment())
        said = said.or_else(self.pattern(name)) if self.pattern else said
        own = taken if seconds is None else self.start
        said = said.or_else(Moment("", own, clock=own is not None, exact=own is not None))
        if seconds is None or said.time is None:
            return said
        return replace(said, time=said.time + timedelta(seconds=seconds))

    def unfit(self, names: Sequence[str]) -> list[str]:
        """Return the rows of the table that are about none of these names."""
        known = {*names, *(PurePosixPath(name).name for name in names)}
        return [
            row for row, _ in self.table
            if row not in known and not (_is_glob(row) and any(fnmatch(name, row) for name in names))
        ]  # fmt: skip

    def bin(self, moment: Moment) -> Bin:
        """Return the bin that a moment falls into."""
        if moment.time is None or self.by == "all":
            return Bin(moment.place, "")
        by = "day" if self.by in ("minute", "hour") and not moment.clock else self.by
        return Bin(moment.place, _CUTS[by](moment.time).strftime(_SHOWN.get(by, "week of %Y-%m-%d")))

    def cluster(self, name: str, moment: Moment, seconds: float | None) -> tuple[str, ...]:
        """Return what is equal for images that may show the same people at once: one place, or video, and block."""
        if seconds is not None:
            return "video", name, str(int(seconds // self.cluster_seconds))
        if moment.time is None or not moment.exact:
            return "image", name
        since = (moment.time - datetime(1970, 1, 1)).total_seconds()
        return "moment", moment.place, str(int(since // self.cluster_seconds))


def _fits(row: str, name: str) -> bool:
    return row in (name, PurePosixPath(name).name) or fnmatch(name, row)


def _is_glob(row: str) -> bool:
    return any(sign in row for sign in "*?[")


def check_by(by: str) -> str:
    """Return the length of a bin.

    Raises:
        UsageError: there is no such length.
    """
    if by not in BY:
        raise UsageError(f"--by {by}: expected one of {', '.join(BY)}{nearest(by, BY)}", next_step="--by day")
    return by


def read_time(text: str, what: str) -> tuple[datetime, bool]:
    """Parse a local time such as `2026-11-25 14:30`, or a day alone, and say if it is a time of the day.

    Raises:
        UsageError: it is neither.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{what}: {text!r} is no time", next_step="write it as 2026-11-25 14:30, or as 2026-11-25"
        ) from error
    return found.replace(tzinfo=None), ":" in text or "T" in text


def read_table(path: Path) -> list[tuple[str, Moment]]:
    """Return the rows of a CSV with the columns `file`, and `place` or `time` or both.

    Raises:
        MissingError: there is no such file.
        DataError: it lacks a column, or a row a file.
        UsageError: a time that is none.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such table", next_step=f"a CSV with the columns {', '.join(COLUMNS)}")
    try:
        columns, rows = _cells(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected CSV in UTF-8; {error}", next_step="save it as CSV in UTF-8") from error
    once = {column for column in columns if columns.count(column) == 1}
    if not rows or "file" not in once or not {"place", "time"} & once:
        raise DataError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and a row; found {columns or 'none'}",
            next_step="name files as they are below the folder; globs are allowed, such as market/*",
        )
    return [_row(path, number, row) for number, row in enumerate(rows, start=2)]


def _cells(path: Path) -> tuple[list[str], list[dict[str | None, Any]]]:
    """Return the names of a CSV's columns in small letters, and its rows; spreadsheets also part with `;` and tabs."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline()
        stream.seek(0)
        reader = csv.DictReader(stream, delimiter=max(",;\t", key=head.count))
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        return columns, list(reader)


def _row(path: Path, number: int, row: Mapping[str | None, Any]) -> tuple[str, Moment]:
    if any(row.get(None) or ()):
        raise DataError(
            f"{path}, line {number}: more cells than columns, such as {row[None][0]!r}",
            next_step="put a place that holds a comma in quotes",
        )
    file, place, time = ((row.get(key) or "").strip() for key in COLUMNS)
    if not file:
        raise DataError(f"{path}, line {number}: expected a file, found none", next_step="name one, or remove the line")
    if not time:
        return file, Moment(place)
    when, clock = read_time(time, f"{path}, line {number}")
    return file, Moment(place, when, clock, exact=clock and not _is_glob(file))


def pattern_of(text: str) -> Callable[[str], Moment]:
    """Return what reads a place and a time from names.

    Args:
        text: `{place}` and `{time:FORMAT}` (with %Y %m %d %H %M %S) between the letters of a name without its
            extension; `*` stands for anything. With a `/` in it, it is about the whole path below the top folder.

    Raises:
        UsageError: it holds neither, or a format that is not known.
    """
    spoken = re.findall(r"\{time:([^}]*)\}", text)
    if len(spoken) > 1 or text.count("{place}") > 1 or not (spoken or "{place}" in text):
        raise UsageError(
            f"--pattern {text!r}: expected {{place}} or {{time:%Y-%m-%d}}, once each, or both",
            next_step="for example --pattern '{place}_{time:%Y%m%d-%H%M}*'",
        )
    made = re.compile("".join(_piece(part, text) for part in re.split(r"(\{[^}]*\}|\*)", text)))

    def read(name: str) -> Moment:
        path = PurePosixPath(name)
        found = made.fullmatch(path.with_suffix("").as_posix() if "/" in text else path.stem)
        if found is None:
            return Moment()
        parts = found.groupdict()
        try:
            time = datetime.strptime(parts["time"], spoken[0]) if spoken else None
        except ValueError:  # digits that are no day, such as a 31st of April
            time = None
        clock, exact = (time is not None and sign in spoken[0] for sign in ("%H", "%M"))
        return Moment(parts.get("place") or "", time, clock, exact)

    return read


def _piece(part: str, text: str) -> str:
    if part == "*":
        return ".*"
    if part == "{place}":
        return "(?P<place>[^/]+?)"
    if not part.startswith("{time:"):
        return re.escape(part)
    form = re.split(r"(%.)", part[len("{time:") : -1])
    unknown = [one for one in form if one.startswith("%") and one[1:] not in _DIGITS]
    if unknown:
        raise UsageError(
            f"--pattern {text!r}: {unknown[0]} is not known", next_step=f"one of: {' '.join(f'%{x}' for x in _DIGITS)}"
        )
    digits = (rf"\d{{{_DIGITS[one[1:]]}}}" if one.startswith("%") else re.escape(one) for one in form)
    return f"(?P<time>{''.join(digits)})"
