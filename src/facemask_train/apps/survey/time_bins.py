"""Assign images to places, time bins and clusters.

Place and time come from a table (`--places`), from file names (`--pattern`), from EXIF, or, for a video, from its start
(`--start`) and the frame's time. The first source that has a value is used. Does not read images.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from facemask_train.core.errors import DataError, MissingError, UsageError, nearest

COLUMNS = ("file", "place", "time")
CLUSTER_SECONDS = 60.0
"""Images of one place, or frames of one video, within this many seconds form one cluster: they show the same people."""

_BIN_STARTS: dict[str, Callable[[datetime], datetime]] = {
    "minute": lambda t: t.replace(second=0, microsecond=0),
    "hour": lambda t: t.replace(minute=0, second=0, microsecond=0),
    "day": lambda t: t.replace(hour=0, minute=0, second=0, microsecond=0),
    "week": lambda t: _BIN_STARTS["day"](t) - timedelta(days=t.weekday()),
    "month": lambda t: _BIN_STARTS["day"](t).replace(day=1),
    "all": lambda _: datetime.min,
}
BY = tuple(_BIN_STARTS)
_FORMATS = {"minute": "%Y-%m-%d %H:%M", "hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
_log = logging.getLogger(__name__)
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3}


@dataclass(frozen=True, slots=True)
class PlaceTime:
    """Where and when an image was taken, as far as is known.

    Attributes:
        clock: `time` has a time of day, not only a date.
        exact: `time` is that of this image, not of a group of images.
    """

    place: str = ""
    time: datetime | None = None
    clock: bool = False
    exact: bool = False

    def or_else(self, other: PlaceTime) -> PlaceTime:
        """Return this, with missing values from another."""
        return replace(self if self.time else other, place=self.place or other.place)


@dataclass(frozen=True, slots=True, order=True)
class Bin:
    """A place and the start of a time bin as text; empty if they are not known."""

    place: str
    time: str


@dataclass(frozen=True, eq=False, slots=True)
class BinningRules:
    """How images are assigned to places, time bins and clusters.

    Attributes:
        by: the length of a time bin, one of `BY`.
        table: rows (a name or a glob, place and time); the first that matches is used.
        pattern: reads place and time from a file name.
        start: when the videos begin.
        cluster_seconds: images within this many seconds form one cluster.
    """

    by: str = "day"
    table: Sequence[tuple[str, PlaceTime]] = ()
    pattern: NamePattern | None = None
    start: datetime | None = None
    cluster_seconds: float = CLUSTER_SECONDS

    def place_time(self, name: str, taken: datetime | None, seconds: float | None) -> PlaceTime:
        """Return where and when an image was taken.

        Args:
            name: the file's `media.Source.name`.
            taken: date and time from EXIF.
            seconds: since the start of the video; None for an image.
        """
        found = next((one for row, one in self.table if _matches(row, name)), PlaceTime())
        found = found.or_else(self.pattern.read(name)) if self.pattern else found
        own = taken if seconds is None else self.start
        found = found.or_else(PlaceTime("", own, clock=own is not None, exact=own is not None))
        if seconds is None or found.time is None:
            return found
        return replace(found, time=found.time + timedelta(seconds=seconds))

    def unmatched_rows(self, names: Sequence[str]) -> list[str]:
        """Return the rows of the table that match none of these names."""
        known = {*names, *(PurePosixPath(name).name for name in names)}
        return [
            row for row, _ in self.table
            if row not in known and not (_is_glob(row) and any(fnmatch(name, row) for name in names))
        ]  # fmt: skip

    def bin(self, when: PlaceTime) -> Bin:
        """Return the bin of a place and time."""
        if when.time is None or self.by == "all":
            return Bin(when.place, "")
        by = "day" if self.by in ("minute", "hour") and not when.clock else self.by
        return Bin(when.place, _BIN_STARTS[by](when.time).strftime(_FORMATS.get(by, "week of %Y-%m-%d")))

    def cluster(self, name: str, when: PlaceTime, seconds: float | None) -> tuple[str, ...]:
        """Return a key that is equal for images that may show the same people: one place or video, one moment."""
        if seconds is not None:
            return "video", name, str(int(seconds // self.cluster_seconds))
        if when.time is None or not when.exact:
            return "image", name
        since = (when.time - datetime(1970, 1, 1)).total_seconds()
        return "moment", when.place, str(int(since // self.cluster_seconds))


def _matches(row: str, name: str) -> bool:
    return row in (name, PurePosixPath(name).name) or fnmatch(name, row)


def _is_glob(row: str) -> bool:
    return any(sign in row for sign in "*?[")


def check_by(by: str) -> str:
    """Return `by` if it is a bin length.

    Raises:
        UsageError: it is not one.
    """
    if by not in BY:
        raise UsageError(f"--by {by}: expected one of {', '.join(BY)}{nearest(by, BY)}", next_step="--by day")
    return by


def read_time(text: str, what: str) -> tuple[datetime, bool]:
    """Parse a local time such as `2026-11-25 14:30`, or a date; return it and whether it has a time of day.

    Args:
        what: the option or line that it is from, for the message.

    Raises:
        UsageError: it is neither, or it has an offset from UTC.
    """
    found, clock = _parse_time(text, what)
    if found.tzinfo is not None:
        raise UsageError(
            f"{what}: expected a local time, found {text!r} with an offset from UTC",
            next_step=f"write the local time without the offset: {found:%Y-%m-%d %H:%M}",
        )
    return found, clock


def _parse_time(text: str, what: str) -> tuple[datetime, bool]:
    """Parse a time, with or without an offset from UTC, or a date."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is not None:  # room for another offset
            _ = found - timedelta(days=2), found + timedelta(days=2)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{what}: expected a date or a time, found {text!r}",
            next_step="write it as 2026-11-25 14:30, or as 2026-11-25",
        ) from error
    return found, ":" in text or "T" in text


def read_table(path: Path) -> list[tuple[str, PlaceTime]]:
    """Read a CSV with the columns `file`, and `place` or `time` or both.

    Raises:
        MissingError: there is no such file.
        DataError: a column is missing, or a row has no file.
        UsageError: a time cannot be parsed, or only some have an offset from UTC.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such table", next_step=f"give a CSV with the columns {', '.join(COLUMNS)}")
    try:
        columns, rows = _cells(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected CSV in UTF-8; {error}", next_step="save it as CSV in UTF-8") from error
    once = {column for column in columns if columns.count(column) == 1}
    if not rows or "file" not in once or not {"place", "time"} & once:
        raise DataError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and at least one row; found {columns or 'none'}",
            next_step="give file names relative to the folder; globs such as market/* are allowed",
        )
    return _on_one_clock(path, [_row(path, number, row) for number, row in enumerate(rows, start=2)])


def _on_one_clock(path: Path, rows: list[tuple[str, PlaceTime]]) -> list[tuple[str, PlaceTime]]:
    """Return the rows with times of one clock, without offsets from UTC: that of the first row, if there are several.

    Raises:
        UsageError: some times have an offset and others have none.
    """
    zones = {number: one.time.tzinfo for number, (_, one) in enumerate(rows, start=2) if one.time}
    plain = [number for number, zone in zones.items() if zone is None]
    if not zones or len(plain) == len(zones):
        return rows
    offset = next(number for number, zone in zones.items() if zone is not None)
    if plain:
        raise UsageError(
            f"{path}: expected all times with an offset from UTC, or none; found one in line {offset}, and none in line"
            f" {plain[0]}",
            next_step="write the local times of all rows without an offset (2026-11-25 14:30), or all with one",
        )
    zone = zones[offset]
    if len({one.time.utcoffset() for _, one in rows if one.time}) > 1:
        _log.warning("%s: its times have several offsets from UTC; all are shown as %s", path, zone)
    return [
        (file, replace(one, time=one.time.astimezone(zone).replace(tzinfo=None)) if one.time else one)
        for file, one in rows
    ]


class _CsvRow(NamedTuple):
    """A row of a CSV file: its cells by column, and those past the last column."""

    cells: dict[str, str]
    surplus: tuple[str, ...]


def _cells(path: Path) -> tuple[list[str], list[_CsvRow]]:
    """Return a CSV's column names in lowercase, and its rows. The separator may be a comma, a semicolon or a tab."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline()
        stream.seek(0)
        columns, *lines = list(csv.reader(stream, delimiter=max(",;\t", key=head.count))) or [[]]
        names = [name.strip().lower() for name in columns]
        return names, [
            _CsvRow(dict(zip(names, line, strict=False)), tuple(line[len(names) :])) for line in lines if line
        ]


def _row(path: Path, number: int, row: _CsvRow) -> tuple[str, PlaceTime]:
    if any(row.surplus):
        raise DataError(
            f"{path}, line {number}: more cells than columns, such as {row.surplus[0]!r}",
            next_step="put a place with a comma in quotes",
        )
    file, place, time = (row.cells.get(key, "").strip() for key in COLUMNS)
    if not file:
        raise DataError(
            f"{path}, line {number}: expected a file name, found none", next_step="add one, or remove the line"
        )
    if not time:
        return file, PlaceTime(place)
    when, clock = _parse_time(time, f"{path}, line {number}")
    return file, PlaceTime(place, when, clock, exact=clock and not _is_glob(file))


@dataclass(frozen=True, slots=True)
class NamePattern:
    """Reads place and time from file names: see `parse_pattern`.

    Attributes:
        text: the pattern as given.
        expression: matches a name, with the groups `place` and `time`.
        time_format: of the group `time`, None if the pattern has none.
    """

    text: str
    expression: re.Pattern[str]
    time_format: str | None

    def read(self, name: str) -> PlaceTime:
        """Return what a name says, or nothing if it does not match."""
        path = PurePosixPath(name)
        found = self.expression.fullmatch(path.with_suffix("").as_posix() if "/" in self.text else path.stem)
        if found is None:
            return PlaceTime()
        groups, time_format = found.groupdict(), self.time_format or ""
        try:
            time = datetime.strptime(groups["time"], time_format) if time_format else None
        except ValueError:  # not a date, such as April 31
            time = None
        clock, exact = (time is not None and sign in time_format for sign in ("%H", "%M"))
        return PlaceTime(groups.get("place") or "", time, clock, exact)


def parse_pattern(text: str) -> NamePattern:
    """Parse a pattern for file names.

    Args:
        text: a file name without its extension, with `{place}`, `{time:FORMAT}` (%Y %m %d %H %M %S) and `*` for any
            text. If it contains a `/`, it is matched against the whole path below the common folder.

    Raises:
        UsageError: it has neither placeholder, or an unknown format.
    """
    formats = re.findall(r"\{time:([^}]*)\}", text)
    if len(formats) > 1 or text.count("{place}") > 1 or not (formats or "{place}" in text):
        raise UsageError(
            f"--pattern {text!r}: expected {{place}} or {{time:%Y-%m-%d}}, once each, or both",
            next_step="for example --pattern '{place}_{time:%Y%m%d-%H%M}*'",
        )
    pieces = (_piece(part, text) for part in re.split(r"(\{[^}]*\}|\*)", text))
    return NamePattern(text, re.compile("".join(pieces)), formats[0] if formats else None)


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
            f"--pattern {text!r}: unknown format {unknown[0]}",
            next_step=f"use one of: {' '.join(f'%{x}' for x in _DIGITS)}",
        )
    digits = (rf"\d{{{_DIGITS[one[1:]]}}}" if one.startswith("%") else re.escape(one) for one in form)
    return f"(?P<time>{''.join(digits)})"


def binning_rules(
    by: str = "day",
    places: Path | None = None,
    pattern: str | None = None,
    start: str | None = None,
    cluster_seconds: float = CLUSTER_SECONDS,
) -> BinningRules:
    """Return the rules that a user's options give: as `fmask survey` has them.

    Args:
        by: the length of a time bin, one of `BY`.
        places: a CSV file with the columns file, place and time.
        pattern: how file names hold place and time.
        start: when a video starts.
        cluster_seconds: images of one place or video within this time form one cluster.

    Raises:
        UsageError: an option has a wrong value.
        MissingError, DataError: the CSV file is missing or cannot be read.
    """
    return BinningRules(
        check_by(by),
        read_table(places) if places is not None else (),
        parse_pattern(pattern) if pattern is not None else None,
        read_time(start, "--start")[0] if start is not None else None,
        cluster_seconds,
    )
