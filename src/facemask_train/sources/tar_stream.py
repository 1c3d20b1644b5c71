"""The members of a tar, packed or not, whose headers cannot exhaust the memory or the processor."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from facemask_train.sources.members import Member, limited, plain_name, readable, refusal

MAX_READ = 16 * 1024**2
"""Bytes of one read, since a forged header makes the standard library ask for more; and of what may follow the end."""
MAX_HEADER = 64 * 1024
"""Bytes of one extended header (pax). Ordinary ones hold a name and a few times, in some hundred bytes."""
MAX_HEADERS = 64 * 1024**2
"""Bytes of all extended headers of a tar."""

_CHUNK = 1024**2
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) [^=]+=")
_LONG_NUMBER = re.compile(rb"[0-9]{100}")


Unpacked = IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

TAR_PACKINGS: Mapping[str, Callable[[Path], Unpacked]] = {
    "": lambda path: path.open("rb"),
    "gzip": gzip.GzipFile,
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
"""How a tar may be packed, and what unpacks it."""


class TarStream(io.RawIOBase):
    """The bytes of a tar: limits each read, and the last one can be undone."""

    def __init__(self, unpacked: Unpacked) -> None:
        self.header_bytes = 0
        """Bytes of the extended headers that were read so far."""
        self._unpacked = unpacked
        self._unread = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_READ:
            raise tarfile.ReadError("a header that is longer than any header")
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        return self._unpacked.read(size)

    def unread(self, data: bytes) -> None:
        """Return `data` from the next `read`, which must ask for as many bytes."""
        self._unread = data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._unpacked.seek(offset, whence)

    def tell(self) -> int:
        return self._unpacked.tell() - len(self._unread)

    def read_to_end(self) -> None:
        """Read what follows the last member: a few blocks of zeros, and the checksum.

        Raises:
            tarfile.ReadError: much more than that follows.
        """
        read = 0
        while data := self.read(_CHUNK):
            read += len(data)
            if read > MAX_READ:
                raise tarfile.ReadError("it goes on long after its last member")


def is_plain_tar(start: bytes) -> bool:
    """Return whether the first 512 bytes of a file are a header of a tar, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextmanager
def open_tar(archive: Path, packing: str) -> Iterator[list[Member]]:
    """Give the files of a tar, their names and sizes checked, for as long as it is open.

    Args:
        packing: one of `TAR_PACKINGS`.

    Raises:
        DataError: the archive is broken, or holds what is never unpacked.
    """
    with TAR_PACKINGS[packing](archive) as unpacked:
        stream = TarStream(unpacked)
        with readable(archive):
            packed = tarfile.open(fileobj=stream, mode="r:", tarinfo=_CheckedHeader)  # noqa: SIM115 - members read it
            members = _members(archive, packed)
            stream.seek(packed.offset)
            end = stream.read(tarfile.BLOCKSIZE)
            if packing == "" and end != bytes(tarfile.BLOCKSIZE):  # without a checksum, nothing else tells
                raise tarfile.ReadError("its end is missing")
            stream.read_to_end()
        yield members


def _members(archive: Path, packed: tarfile.TarFile) -> list[Member]:
    members = []
    for info in limited(archive, archive.stat().st_size, packed, lambda info: info.size):
        if info.isdir() and not PurePosixPath(info.name).parts:
            continue  # `tar -C folder .` has a member for the folder itself
        name = plain_name(archive, info.name)
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise refusal(archive, f"{name!r} is a link or a device")
        members.append(Member(name, info.size, partial(_tar_stream, packed, info)))
    return members


def _tar_stream(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = packed.extractfile(info)
    assert stream is not None  # only members that are not regular have none
    return stream


class _CheckedHeader(tarfile.TarInfo):
    """A tar header whose extended headers are checked before the standard library parses them.

    The library's patterns take time that grows with the square of a run of digits: a 1 KB archive blocks it for hours.
    """

    def _proc_pax(self, packed: tarfile.TarFile) -> tarfile.TarInfo:
        stream = packed.fileobj
        assert isinstance(stream, TarStream)
        stream.header_bytes += self.size
        if not 0 <= self.size <= MAX_HEADER or stream.header_bytes > MAX_HEADERS:
            raise tarfile.ReadError("an extended header that is longer than any header")
        block = stream.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        check_pax(block[: self.size])
        stream.unread(block)
        return super()._proc_pax(packed)  # type: ignore[misc, no-any-return]


def check_pax(header: bytes) -> None:
    """Check that a pax header is a sequence of records, each `LENGTH KEYWORD=VALUE` and a line end.

    Raises:
        tarfile.ReadError: it is not, or holds a number that is longer than any number.
    """
    position = 0
    while position < len(header):
        record = _RECORD.match(header, position, position + MAX_HEADER)
        end = position + int(record[1]) if record else 0
        if not record or not record.end() < end <= len(header) or header[end - 1 : end] != b"\n":
            raise tarfile.ReadError("an extended header that is malformed")
        position = end
    if _LONG_NUMBER.search(header):
        raise tarfile.ReadError("an extended header with a number that is longer than any number")
