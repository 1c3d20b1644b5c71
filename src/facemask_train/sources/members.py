"""What a source's files are while they are brought in: members with a name and a size, checked before they are read.

Independent of how they are packed. The limits that hold for archives and folders alike are here.
"""

from __future__ import annotations

import errno
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from facemask_train.core.errors import DataError, StorageError

MAX_ENTRIES = 200_000
MAX_BYTES = 20 * 1024**3
MAX_RATIO = 100
SMALL = 64 * 1024**2
"""What expands to no more than this is never a bomb, whatever its ratio: a folder of label files packs very well."""

_MAX_NAME, _MAX_PART = 1024, 255  # bytes, as most file systems have it
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    lzma.LZMAError,
    EOFError,
    MemoryError,  # a dictionary that no machine has room for
    ValueError,  # offsets that point before the file's start, names that are not the Unicode they claim
    NotImplementedError,  # a zip version or a patch format that zipfile does not read
    RecursionError,  # tar headers that describe headers that describe headers
)

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive or a folder, with the name and the size that it claims."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def plain_name(source: Path, name: str) -> str:
    """Return a member's name as a plain relative path; refuse one that could leave the target, or fit no disk."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise refusal(source, f"{name!r} leads out of the folder (a relative path with / is expected)")
    shown = name.removesuffix("\r") if parts[-1:] == ("Icon\r",) else name  # the icon of a folder on a Mac: litter
    if not parts or any(ord(character) < 32 or ord(character) == 127 for character in shown):
        raise refusal(source, f"{name!r} is not a name that a file can have")
    try:
        encoded = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise refusal(source, f"{name!r} is not in Unicode") from error
    if max(encoded) > _MAX_PART or sum(encoded) + len(parts) > _MAX_NAME:
        raise refusal(source, f"{name[:80]!r}... is longer than a file's name can be")
    return "/".join(parts)


def limited(source: Path, packed: int, entries: Iterable[Entry], size: Callable[[Entry], int]) -> Iterator[Entry]:
    """Pass the entries of an archive of `packed` bytes on, and refuse a bomb before it is read."""
    expanded = 0
    for count, entry in enumerate(entries, start=1):
        expanded += size(entry)
        if count > MAX_ENTRIES:
            raise refusal(source, f"it holds more than {MAX_ENTRIES:,} members")
        if size(entry) < 0 or expanded > MAX_BYTES:
            raise refusal(source, f"it expands to more than {MAX_BYTES / 1e6:,.1f} MB")
        if expanded > max(SMALL, MAX_RATIO * packed):
            raise refusal(source, f"it expands to more than {MAX_RATIO} times its size")
        yield entry


def not_read(archive: Path, what: str) -> DataError:
    """Return the error for an archive that may be sound, but is of a kind that is not read here."""
    next_step = "unpack it, and set `path:` of this source in configs/sources.yaml to the folder; or get a sound copy"
    return DataError(f"{archive}: {what}", next_step=next_step)


def refusal(source: Path, what: str) -> DataError:
    """Return the error for an archive or a folder that is broken, or holds what is never brought in."""
    return DataError(f"{source}: {what}", next_step="get a sound copy of it, then run this command again")


def unreadable(error: OSError) -> None:
    """Raise the error for a file or a folder that may not be read."""
    raise StorageError(
        f"{error.filename}: cannot be read ({error.strerror})", next_step="make it readable, then run this again"
    ) from error


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Turn all that a truncated or flipped archive makes the standard library say into one error."""
    broken = "it is truncated or damaged"
    try:
        yield
    except _BROKEN as error:
        raise refusal(source, f"{broken} ({str(error) or type(error).__name__})") from error
    except PermissionError as error:
        unreadable(error)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # gzip's own errors have no number, a wrong offset has EINVAL
            raise
        raise refusal(source, f"{broken} ({error})") from error
