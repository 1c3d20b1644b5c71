"""Safe unpacking: an archive or a folder of a stranger becomes plain files. Independent of sources and Kaggle.

Read are `.zip` and `.tar.gz`: both carry checksums of what they hold, a plain `.tar` has none. All members are checked
before the first is written, and one that is wrong refuses the whole archive:

- names: absolute, with `..`, a drive letter, a backslash, or a control character; not Unicode; too long for a disk
- twice the same name, also when only case or Unicode form differs; a file where another member needs a folder
- links, devices, and whatever else is not a file or a folder; encrypted members
- more than `MAX_ENTRIES` members, more than `MAX_BYTES` expanded, or an expansion by more than `MAX_RATIO`
- a tar's extended header that is malformed, or too long (`tar_stream`)

The archive itself must be a regular file, since a pipe or a device may never end.
Three kinds are left out, and listed: files that run code when a tool opens them (scripts, libraries, pickles such as
`.cache`, `.pkl` and `.pt`), arrays that replace the image beside them (`.npy`, `.npz`), and what operating systems
litter (`__MACOSX/`, `._*`, `.DS_Store`, `Thumbs.db`, `desktop.ini`). Nothing that is written is executable.

The content digest is `sha256:` and the SHA-256 of this byte string: for each file that is not left out, in the order of
their names as UTF-8 bytes, the name (relative, with `/`), one zero byte, and the 32 bytes of its content's SHA-256. It
is the same for an archive, for the same files packed otherwise, for the folder that they came from, and for the folder
that they were unpacked to.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from facemask_train.core.errors import DataError, StorageError
from facemask_train.core.types import Progress, no_progress
from facemask_train.sources.tar_stream import GzipStream, open_tar

MAX_ENTRIES = 200_000
MAX_BYTES = 20 * 1024**3
MAX_RATIO = 100
SMALL = 64 * 1024**2
"""What expands to no more than this is never a bomb, whatever its ratio: a folder of label files packs very well."""

RUNS_CODE = "runs-code"
REPLACES_IMAGE = "replaces-image"
LITTER = "litter"

_ENDINGS = {
    RUNS_CODE: (
        *(".cache", ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"),
        *(".py", ".pyc", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".exe", ".com", ".scr", ".msi", ".jar", ".lnk"),
        *(".sh", ".bash", ".bat", ".cmd", ".ps1", ".vbs", ".js", ".whl", ".egg"),
    ),
    REPLACES_IMAGE: (".npy", ".npz"),
}
_LITTER = (".ds_store", "thumbs.db", "desktop.ini", "icon\r")

_CHUNK = 1024**2
_BLOCK = 4096  # what the smallest file takes on most disks
_MAX_NAME, _MAX_PART = 1024, 255  # bytes, as most file systems have it
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,  # offsets that point before the file's start, names that are not the Unicode they claim
    NotImplementedError,  # a zip version or a patch format that zipfile does not read
    RecursionError,  # tar headers that describe headers that describe headers
)

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Contents:
    """What was brought in. `skipped` holds the name and the cause of each file that was left out, by name."""

    digest: str
    files: int
    bytes: int
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Member:
    """A regular file in an archive or a folder, with the name and the size that it claims."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path, *, progress: Progress = no_progress) -> Contents:
    """Check an archive, unpack it into the new folder `target`, and verify its checksums.

    Raises:
        DataError: the archive is broken, or holds what is never unpacked; `target` is then half filled.
        StorageError: the disk has no room for its files.
    """
    with _opened(archive) as members:
        return _bring(archive, members, target, progress)


def copy(folder: Path, target: Path, *, progress: Progress = no_progress) -> Contents:
    """Copy a folder into the new folder `target`, under the same rules as an archive.

    Raises:
        DataError: the folder holds what is never brought in; `target` is then half filled.
        StorageError: the disk has no room for its files.
    """
    return _bring(folder, _folder_members(folder), target, progress)


def digest_folder(folder: Path) -> str:
    """Return the content digest of a folder.

    Raises:
        DataError: the folder holds what is never brought in.
    """
    kept, _ = _sift(folder, _folder_members(folder))
    return _digest({member.name: _consume(member, folder) for member in kept})


def require_space(folder: Path, needed: int) -> None:
    """Make sure that the disk of `folder` takes `needed` more bytes.

    Raises:
        StorageError: it does not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{folder}: {needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free on this disk",
            next_step="free some space (or choose another folder with --root), then run this command again",
        )


def _bring(source: Path, members: Iterable[_Member], target: Path, progress: Progress) -> Contents:
    kept, skipped = _sift(source, members)
    target.mkdir(parents=True)
    require_space(target, sum(-(-member.size // _BLOCK) * _BLOCK for member in kept))
    total, done, digests = sum(member.size for member in kept), 0, {}
    for member in kept:
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            digests[member.name] = _consume(member, source, out.write)
        done += member.size
        progress("unpacking", done, total)
    return Contents(_digest(digests), len(kept), total, skipped)


def _consume(member: _Member, source: Path, write: Callable[[bytes], object] | None = None) -> bytes:
    """Read a member to its end, which verifies its checksum, and return the SHA-256 of its content."""
    digest, size = hashlib.sha256(), 0
    with _readable(source), member.open() as stream:
        for chunk in iter(partial(stream.read, _CHUNK), b""):
            digest.update(chunk)
            size += len(chunk)
            if write is not None:
                write(chunk)
    if size != member.size:
        raise _refusal(source, f"{member.name!r} claims {member.size} bytes and holds {size}")
    return digest.digest()


def _digest(digests: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name, content in sorted((name.encode(), content) for name, content in digests.items()):
        whole.update(name + b"\0" + content)
    return f"sha256:{whole.hexdigest()}"


# What is refused, and what is left out


def _sift(source: Path, members: Iterable[_Member]) -> tuple[list[_Member], tuple[tuple[str, str], ...]]:
    """Check every member, and return those to bring in, and the name and cause of those to leave out."""
    kept: list[_Member] = []
    skipped: list[tuple[str, str]] = []
    for member in members:
        cause = _left_out(member.name)
        if cause:
            skipped.append((member.name, cause))
        else:
            kept.append(member)
    if not kept:
        raise _refusal(source, "it holds no files that can be used")
    _refuse_collisions(source, [member.name for member in kept])
    return kept, tuple(sorted(skipped))


def _left_out(name: str) -> str:
    """Return why a file is left out, or an empty string."""
    parts = name.lower().split("/")
    if "__macosx" in parts or parts[-1].startswith("._") or parts[-1] in _LITTER:
        return LITTER
    return next((cause for cause, endings in _ENDINGS.items() if parts[-1].endswith(endings)), "")


def _refuse_collisions(source: Path, names: list[str]) -> None:
    """Refuse names that would overwrite each other on some disk: there is no telling which one is meant."""
    folded = {name: unicodedata.normalize("NFC", name).lower() for name in names}
    times = Counter(folded[name] for name in names)
    parents = {str(parent) for name in folded.values() for parent in PurePosixPath(name).parents}
    for name in names:
        if times[folded[name]] > 1:
            raise _refusal(source, f"{name!r} is there twice (names that differ only by case count as the same)")
        if folded[name] in parents:
            raise _refusal(source, f"{name!r} is both a file and a folder")


def _plain(source: Path, name: str) -> str:
    """Return a member's name as a plain relative path; refuse one that could leave the target, or fit no disk."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise _refusal(source, f"{name!r} leads out of the folder (a relative path with / is expected)")
    shown = name.removesuffix("\r") if parts[-1:] == ("Icon\r",) else name  # the icon of a folder on a Mac: litter
    if not parts or any(ord(character) < 32 or ord(character) == 127 for character in shown):
        raise _refusal(source, f"{name!r} is not a name that a file can have")
    try:
        encoded = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise _refusal(source, f"{name!r} is not in Unicode") from error
    if max(encoded) > _MAX_PART or sum(encoded) + len(parts) > _MAX_NAME:
        raise _refusal(source, f"{name[:80]!r}... is longer than a file's name can be")
    return "/".join(parts)


def _limited(source: Path, packed: int, entries: Iterable[Entry], size: Callable[[Entry], int]) -> Iterator[Entry]:
    """Pass the entries of an archive of `packed` bytes on, and refuse a bomb before it is read."""
    expanded = 0
    for count, entry in enumerate(entries, start=1):
        expanded += size(entry)
        if count > MAX_ENTRIES:
            raise _refusal(source, f"it holds more than {MAX_ENTRIES:,} members")
        if size(entry) < 0 or expanded > MAX_BYTES:
            raise _refusal(source, f"it expands to more than {MAX_BYTES / 1e6:,.1f} MB")
        if expanded > max(SMALL, MAX_RATIO * packed):
            raise _refusal(source, f"it expands to more than {MAX_RATIO} times its size")
        yield entry


def _unread(archive: Path, what: str) -> DataError:
    """Return the error for an archive that may be sound, but is of a kind that is not read here."""
    next_step = "unpack it, and set `path:` of this source in configs/sources.yaml to the folder; or get a sound copy"
    return DataError(f"{archive}: {what}", next_step=next_step)


def _refusal(source: Path, what: str) -> DataError:
    return DataError(f"{source}: {what}", next_step="get a sound copy of it, then run this command again")


# What archives and folders hold


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    """Give the members of an archive, their names and sizes checked, for as long as it is open."""
    require_regular(archive)
    with archive.open("rb") as stream:
        start = stream.read(4)
    if start[:2] == b"PK":
        with _readable(archive):
            opened = zipfile.ZipFile(archive)
            if len(opened.infolist()) != _announced(archive, len(opened.infolist())):
                raise _refusal(archive, "it is truncated or damaged (members are missing from its directory)")
        with opened:
            yield _zip_members(archive, opened)
    elif start[:2] == b"\x1f\x8b":
        with GzipStream(archive) as unzipped:
            with _readable(archive):
                packed = open_tar(unzipped)
                members = _tar_members(archive, packed)
                while unzipped.read(_CHUNK):  # to the end: there the checksum is
                    pass
            yield members
    else:
        raise _unread(archive, "expected a .zip or a .tar.gz, found something else")


def require_regular(archive: Path) -> None:
    """Check that a path is a regular file, before it is opened: opening a pipe waits for a writer.

    Raises:
        DataError: it is a pipe, a socket, a device or a folder.
    """
    mode = archive.stat().st_mode
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    found = kinds.get(stat.S_IFMT(mode), "a device")
    raise DataError(
        f"{archive}: expected a regular file (.zip or .tar.gz), found {found}",
        next_step="save the archive to a file, then give the path of that file",
    )


def _announced(archive: Path, found: int) -> int:
    """Return how many members a zip says it has.

    `zipfile` does not look: one flipped bit in the length of a comment makes it take the next members for the comment.
    The count has 16 bits. An archive with more members has it in a second record, or (old writers) cut to 16 bits.
    """
    with archive.open("rb") as stream:
        stream.seek(-min(archive.stat().st_size, 2**16 + 256), os.SEEK_END)
        tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    (count,) = struct.unpack_from("<H", tail, end + 10)
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if count == 0xFFFF and large >= 0:
        return int(struct.unpack_from("<Q", tail, large + 32)[0])
    return found - found % 2**16 + int(count)


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> list[_Member]:
    members = []
    for info in _limited(archive, archive.stat().st_size, opened.infolist(), lambda info: info.file_size):
        name = _plain(archive, info.filename)
        if info.is_dir():
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refusal(archive, f"{name!r} is a link or a device")
        if info.flag_bits & 0x41:
            raise _refusal(archive, f"{name!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _unread(archive, f"expected members packed by deflate, found {name!r} by method {info.compress_type}")
        members.append(_Member(name, info.file_size, partial(opened.open, info)))
    return members


def _tar_members(archive: Path, packed: tarfile.TarFile) -> list[_Member]:
    members = []
    for info in _limited(archive, archive.stat().st_size, packed, lambda info: info.size):
        if info.isdir() and not PurePosixPath(info.name).parts:
            continue  # `tar -C folder .` has a member for the folder itself
        name = _plain(archive, info.name)
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise _refusal(archive, f"{name!r} is a link or a device")
        members.append(_Member(name, info.size, partial(_tar_stream, packed, info)))
    return members


def _tar_stream(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = packed.extractfile(info)
    assert stream is not None  # only members that are not regular have none
    return stream


def _folder_members(folder: Path) -> list[_Member]:
    """Return the files of a folder, by name; links are not followed but refused."""
    members = []
    for path in _limited(folder, MAX_BYTES, _walk(folder), lambda path: path.stat().st_size):
        name = _plain(folder, path.relative_to(folder).as_posix())
        members.append(_Member(name, path.stat().st_size, partial(_open_file, path)))
    return sorted(members, key=lambda member: member.name)


def _walk(folder: Path) -> Iterator[Path]:
    """Give every file below a folder."""
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        for entry in folders + files:
            path = Path(place, entry)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path
            elif not stat.S_ISDIR(mode):
                raise _refusal(folder, f"{path.relative_to(folder).as_posix()!r} is a link or a device")


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _unreadable(error: OSError) -> None:
    raise StorageError(
        f"{error.filename}: cannot be read ({error.strerror})", next_step="make it readable, then run this again"
    ) from error


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Turn all that a truncated or flipped archive makes the standard library say into one error."""
    broken = "it is truncated or damaged"
    try:
        yield
    except _BROKEN as error:
        raise _refusal(source, f"{broken} ({str(error) or type(error).__name__})") from error
    except PermissionError as error:
        _unreadable(error)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # gzip's own errors have no number, a wrong offset has EINVAL
            raise
        raise _refusal(source, f"{broken} ({error})") from error
