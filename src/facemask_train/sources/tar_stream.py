"""A gzipped tar, opened for reading, whose headers cannot exhaust the memory or the processor."""

from __future__ import annotations

import gzip
import re
import tarfile

MAX_READ = 16 * 1024**2
"""Bytes of one read: a forged header makes the standard library ask for more."""
MAX_HEADER = 64 * 1024
"""Bytes of one extended header (pax). Ordinary ones hold a name and a few times, in some hundred bytes."""
MAX_HEADERS = 64 * 1024**2
"""Bytes of all extended headers of a tar."""

_RECORD = re.compile(rb"([1-9][0-9]{0,6}) [^=]+=")
_LONG_NUMBER = re.compile(rb"[0-9]{100}")


class GzipStream(gzip.GzipFile):
    """A gzip stream that limits each read, and whose last read can be undone."""

    header_bytes = 0
    """Bytes of the extended headers that were read so far."""
    _unread = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_READ:
            raise tarfile.ReadError("a header that is longer than any header")
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        return super().read(size)

    def unread(self, data: bytes) -> None:
        """Return `data` from the next `read`, which must ask for as many bytes."""
        self._unread = data


def open_tar(stream: GzipStream) -> tarfile.TarFile:
    """Open a tar for as long as its stream is open.

    Raises:
        tarfile.ReadError: the first header is not one of a tar, or is refused. Later ones raise it when they are read.
    """
    return tarfile.open(fileobj=stream, mode="r:", tarinfo=_CheckedHeader)


class _CheckedHeader(tarfile.TarInfo):
    """A tar header whose extended headers are checked before the standard library parses them.

    The library's patterns take time that grows with the square of a run of digits: a 1 KB archive blocks it for hours.
    """

    def _proc_pax(self, packed: tarfile.TarFile) -> tarfile.TarInfo:
        stream = packed.fileobj
        assert isinstance(stream, GzipStream)
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
