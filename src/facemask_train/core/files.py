"""Finished folders: how a step writes a folder so that an incomplete one is never mistaken for a complete one.

A step works in `.NAME.partial-TOKEN` next to its target, writes its marker (a JSON file) last, and moves the folder
into place. After a crash at any time, the next `stage` restores the last complete state. Independent of what a folder
contains.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facemask_train.core.errors import DataError, StorageError


def canonical(data: Any) -> str:
    """Return `data` as JSON with sorted keys and no spaces: equal data gives equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_data(data: Any) -> str:
    """Return the sha256 of the canonical JSON of `data`, in hex."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_NAME = re.compile(r"\w[\w .+-]{0,99}")


def check_name(name: object, where: str) -> str:
    """Return a name for a file or folder, after checking that it is not a path to somewhere else.

    Args:
        where: the file and the key with the name, for the message.

    Raises:
        DataError: it is not 1 to 100 letters, digits, blanks, `.`, `_`, `+` and `-`, or starts with a punctuation mark.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise DataError(
        f"{where}: expected a name of letters, digits, blanks, '.', '_', '+' and '-', found {str(name)[:80]!r}",
        next_step="do not use files from someone whom you do not trust; build the ensemble yourself",
    )


def inside(folder: Path, relative: object, where: str) -> Path:
    """Return a path in a folder, after checking that it is not outside.

    Args:
        relative: a path relative to the folder, with `/`, as in a record or a table.
        where: the file with the path, for the message.

    Raises:
        DataError: it is not text, is absolute, or leads out of the folder, possibly through a symbolic link.
    """
    if isinstance(relative, str) and relative and "\0" not in relative:
        path = folder / relative
        if not Path(relative).is_absolute() and path.resolve().is_relative_to(folder.resolve()):
            return path
    raise DataError(
        f"{where}: expected a path inside {folder}, found {str(relative)[:80]!r}",
        next_step="do not use files from someone whom you do not trust; build the ensemble yourself",
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: even after a crash or on a full disk, it is complete or does not exist."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk it would occupy the last free bytes
        raise


def write_json(path: Path, data: Any) -> None:
    """Write `data` atomically as readable JSON (indented, keys in the given order)."""
    write_bytes(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, or None if there is no such file.

    Raises:
        DataError: the file exists, but is not a JSON object.
    """
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found something else ({error})", next_step=_remove(path)) from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(data).__name__}", next_step=_remove(path))
    return data


def _remove(path: Path) -> str:
    return f"remove {path.parent} and run the command that created it again"


def new_partial(target: Path) -> Path:
    """Return a new path to build in: the processes of a killed command may survive and keep writing to the old one."""
    return target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")


def _old(target: Path) -> Path:
    """Return the path of the old folder while it is replaced."""
    return target.with_name(f".{target.name}.old")


def recover(target: Path) -> None:
    """Clean up after a crash: restore an old folder that was being replaced, and remove incomplete ones."""
    old = _old(target)
    if old.exists() and not target.exists():
        old.replace(target)
    name = re.compile(rf"{re.escape(f'.{target.name}.partial')}(-[0-9a-f]{{8}})?")
    for leftover in (path for path in target.parent.glob(".*.partial*") if name.fullmatch(path.name)):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill. It replaces `target` when the block ends without an error.

    The caller is inside `stage(target)`, and writes the folder's marker last.
    """
    recover(target)
    partial, old = new_partial(target), _old(target)
    with storage_errors(target):
        partial.mkdir(parents=True)
    try:
        with storage_errors(target):
            yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    with storage_errors(target):
        if target.exists():
            target.replace(old)
        partial.replace(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Lock `target` for one command; a second command on it is refused.

    Raises:
        StorageError: another command has locked it, or its parent cannot be written.
    """
    from filelock import FileLock, Timeout

    with storage_errors(target):
        make_folder(target.parent)
        lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"{target}: another fmask command is using this folder",
                next_step="wait until it has finished, then run this command again",
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stage(target: Path) -> Iterator[None]:
    """Lock the folder of a step, and restore its last complete state if an earlier command was killed.

    Inside, the step looks whether the folder is up to date, and if not, fills a new one with `replacing`.

    Raises:
        StorageError: as in `locked`.
    """
    with locked(target):
        recover(target)
        yield


def is_locked(target: Path) -> bool:
    """Return whether a command on this machine has locked `target`."""
    from filelock import FileLock, Timeout

    path = target.with_name(f".{target.name}.lock")
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):  # for a moment, during which another command would be refused
            return False
    except Timeout:
        return True
    except OSError:  # another user's folder: its state is unknown, and it cannot be continued
        return False


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, unless they are there.

    Raises:
        StorageError: nothing can be created here, as in /proc; `storage_errors` knows the other causes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # despite `parents`
        raise StorageError(
            f"{folder}: this folder cannot be created", next_step="choose another folder with --root"
        ) from error


def file_sizes(folder: Path) -> Iterator[int]:
    """Yield the bytes of each file below a folder; links are not followed."""
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                yield os.lstat(os.path.join(parent, file)).st_size  # noqa: PTH118 - of many files
            except OSError:
                continue


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about full disks and unwritable folders into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{error.filename or path}: the disk is full",
                next_step="free some space (or choose another folder with --root), then run this command again",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"{error.filename or path}: this folder cannot be written",
                next_step="make it writable, or choose another folder with --root",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise StorageError(
                f"{error.filename or path}: expected a folder here or above, found a file",
                next_step="move the file away, or choose another folder with --root",
            ) from error
        raise


def latest(folder: Path, marker: str) -> Path | None:
    """Return the folder with a `marker` that was finished last, or None."""
    found = sorted(folder.glob(f"[!.]*/{marker}"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name))
    return found[-1].parent if found else None
