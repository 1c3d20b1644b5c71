"""Safe unpacking: an archive or a folder of a stranger becomes plain files. Independent of sources and Kaggle.

Read are `.zip`, and `.tar` as it is or packed by gzip, bzip2 or xz. All but a plain `.tar` carry checksums of what they
hold; of that one, only the end mark is checked. All members are checked before the first is written, and one that is
wrong refuses the whole archive:

- names: absolute, with `..`, a drive letter, a backslash, or a control character; not Unicode; too long for a disk
- twice the same name, also when only case or Unicode form differs; a file where another member needs a folder
- links, devices, and whatever else is not a file or a folder; encrypted members
- more than `MAX_ENTRIES` members, more than `MAX_BYTES` expanded, or an expansion by more than `MAX_RATIO` (`members`)
- a tar's extended header that is malformed, or too long (`tar_stream`)

The archive itself must be a regular file, since a pipe or a device may never end.
Three kinds are left out, and listed: files that run code when a tool opens them (scripts, libraries, pickles such as
`.cache`, `.pkl` and `.pt`), arrays that replace the image beside them (`.npy`, `.npz`), and what operating systems
litter (`__MACOSX/`, `._*`, `.DS_Store`, `Thumbs.db`, `desktop.ini`, `Icon`). Nothing that is written is executable.

The content digest is `sha256:` and the SHA-256 of this byte string: for each file that is not left out, in the order of
their names as UTF-8 bytes, the name (relative, with `/`), one zero byte, and the 32 bytes of its content's SHA-256. It
is the same for an archive, for the same files packed otherwise, for the folder that they came from, and for the folder
that they were unpacked to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from facemask_train.core.errors import DataError, StorageError
from facemask_train.core.types import Progress, no_progress
from facemask_train.sources.members import (
    MAX_BYTES,
    Member,
    limited,
    not_read,
    plain_name,
    readable,
    refusal,
    unreadable,
)
from facemask_train.sources.tar_stream import TAR_PACKINGS, is_plain_tar, open_tar
from facemask_train.sources.zip_members import announced, zip_members

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

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "Zstandard",
    b"7z\xbc\xaf'\x1c": "7-Zip",
    b"Rar!": "RAR",
}
"""How an archive is packed, by its first bytes."""

_CHUNK = 1024**2
_HEADER = 512  # bytes: what tells the kinds of archives apart
_BLOCK = 4096  # what the smallest file takes on most disks


@dataclass(frozen=True, slots=True)
class Contents:
    """What was brought in. `skipped` holds the name and the cause of each file that was left out, by name."""

    digest: str
    files: int
    bytes: int
    skipped: tuple[tuple[str, str], ...]


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


def _bring(source: Path, members: Iterable[Member], target: Path, progress: Progress) -> Contents:
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


def _consume(member: Member, source: Path, write: Callable[[bytes], object] | None = None) -> bytes:
    """Read a member to its end, which verifies its checksum, and return the SHA-256 of its content."""
    digest, size = hashlib.sha256(), 0
    with readable(source), member.open() as stream:
        for chunk in iter(partial(stream.read, _CHUNK), b""):
            digest.update(chunk)
            size += len(chunk)
            if write is not None:
                write(chunk)
    if size != member.size:
        raise refusal(source, f"{member.name!r} claims {member.size} bytes and holds {size}")
    return digest.digest()


def _digest(digests: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name, content in sorted((name.encode(), content) for name, content in digests.items()):
        whole.update(name + b"\0" + content)
    return f"sha256:{whole.hexdigest()}"


# What is refused, and what is left out


def _sift(source: Path, members: Iterable[Member]) -> tuple[list[Member], tuple[tuple[str, str], ...]]:
    """Check every member, and return those to bring in, and the name and cause of those to leave out."""
    kept: list[Member] = []
    skipped: list[tuple[str, str]] = []
    for member in members:
        cause = _left_out(member.name)
        if cause:
            skipped.append((member.name, cause))
        else:
            kept.append(member)
    if not kept:
        raise refusal(source, "it holds no files that can be used")
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
            raise refusal(source, f"{name!r} is there twice (names that differ only by case count as the same)")
        if folded[name] in parents:
            raise refusal(source, f"{name!r} is both a file and a folder")


# What archives and folders hold


@contextmanager
def _opened(archive: Path) -> Iterator[list[Member]]:
    """Give the members of an archive, their names and sizes checked, for as long as it is open."""
    require_regular(archive)
    with archive.open("rb") as stream:
        start = stream.read(_HEADER)
    if start[:2] == b"PK":
        with readable(archive):
            opened = zipfile.ZipFile(archive)
            if len(opened.infolist()) != announced(archive, len(opened.infolist())):
                raise refusal(archive, "it is truncated or damaged (members are missing from its directory)")
        with opened:
            yield zip_members(archive, opened)
        return
    packing = (
        "" if is_plain_tar(start) else next((name for mark, name in _PACKED.items() if start.startswith(mark)), "?")
    )
    if packing not in ("", *TAR_PACKINGS):
        found = "something else" if packing == "?" else f"an archive of {packing}"
        raise not_read(archive, f"expected a .zip or a .tar (as it is, or packed by gzip, bzip2 or xz), found {found}")
    with open_tar(archive, packing) as members:
        yield members


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
        f"{archive}: expected a regular file (.zip or .tar), found {found}",
        next_step="save the archive to a file, then give the path of that file",
    )


def _folder_members(folder: Path) -> list[Member]:
    """Return the files of a folder, by name; links are not followed but refused."""
    members = []
    for path in limited(folder, MAX_BYTES, _walk(folder), lambda path: path.stat().st_size):
        name = plain_name(folder, path.relative_to(folder).as_posix())
        members.append(Member(name, path.stat().st_size, partial(_open_file, path)))
    return sorted(members, key=lambda member: member.name)


def _walk(folder: Path) -> Iterator[Path]:
    """Give every file below a folder."""
    for place, folders, files in os.walk(folder, onerror=unreadable):
        for entry in folders + files:
            path = Path(place, entry)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path
            elif not stat.S_ISDIR(mode):
                raise refusal(folder, f"{path.relative_to(folder).as_posix()!r} is a link or a device")


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")
