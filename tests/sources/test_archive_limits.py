"""The limits of what is unpacked, each at its edge, and what a zip's own records say: on bytes written by hand."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from facemask_train.core.errors import DataError, StorageError
from facemask_train.sources import archive, members, tar_stream, zip_members
from helpers.records import is_fixed, records

HERE = Path("a.zip")
MIB, GIB = 1024**2, 1024**3


def passed(entries: Iterable[int], packed: int = 1) -> int:
    """Return how many entries of these sizes pass, of an archive of so many bytes."""
    return sum(1 for _ in members.limited(HERE, packed, entries, lambda size: size))


# ---- bombs ----


def test_as_many_members_as_are_allowed() -> None:
    assert passed([0] * 200_000) == 200_000
    with pytest.raises(DataError, match="holds more than 200,000 members"):
        passed([0] * 200_001)


def test_small_contents_may_expand_as_they_like() -> None:
    assert passed([32 * MIB, 32 * MIB]) == 2
    with pytest.raises(DataError, match="expands to more than 100 times its size"):
        passed([32 * MIB, 32 * MIB + 1])


def test_large_contents_may_expand_a_hundredfold() -> None:
    assert passed([100 * MIB], packed=MIB) == 1
    with pytest.raises(DataError, match="100 times"):
        passed([100 * MIB + 1], packed=MIB)


def test_no_contents_are_larger_than_20_gib() -> None:
    assert passed([15 * GIB, 5 * GIB], packed=GIB) == 2
    with pytest.raises(DataError, match=r"more than 21,474\.8 MB"):
        passed([15 * GIB, 5 * GIB + 1], packed=GIB)


def test_a_member_without_bytes_is_one_and_a_negative_one_is_refused() -> None:
    assert passed([0]) == 1
    with pytest.raises(DataError, match="expands to more than"):
        passed([5, -1])


@pytest.mark.parametrize("size", [0, 1, 16 * MIB])
def test_a_tar_is_read_up_to_16_mib_at_once(size: int) -> None:
    assert tar_stream.TarStream(io.BytesIO(b"abc")).read(size) == b"abc"[:size]


@pytest.mark.parametrize("size", [16 * MIB + 1, -1, None])
def test_a_tar_is_not_read_at_once_beyond(size: int | None) -> None:
    with pytest.raises(tarfile.ReadError, match="longer than any header"):
        tar_stream.TarStream(io.BytesIO(b"abc")).read(size)


def test_a_read_can_be_undone() -> None:
    stream = tar_stream.TarStream(io.BytesIO(b"abcdef"))
    stream.unread(stream.read(4))
    assert (stream.tell(), stream.read(4), stream.tell(), stream.read(4)) == (0, b"abcd", 4, b"ef")


@pytest.mark.parametrize(("more", "sound"), [(16 * MIB, True), (16 * MIB + 1, False)])
def test_what_follows_the_last_member_is_limited(more: int, sound: bool) -> None:
    stream = tar_stream.TarStream(io.BytesIO(bytes(more)))
    if sound:
        stream.read_to_end()
    else:
        with pytest.raises(tarfile.ReadError, match="long after its last member"):
            stream.read_to_end()


# ---- names ----


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a b~.jpg",
        "ab:c",
        "images/c:/a",
        "1:a",
        "a..b/c...jpg",
        "é" * 127 + "x",  # 255 bytes
        "/".join(["b" * 255] * 4),  # 1020 bytes and four ends
    ],
)
def test_names_that_are_plain(name: str) -> None:
    assert members.plain_name(HERE, name) == name


def test_a_name_is_made_plain() -> None:
    assert members.plain_name(HERE, "./a//b/./c/") == "a/b/c"


@pytest.mark.parametrize(
    ("name", "saying"),
    [
        ("/a", "leads out"),
        ("a/../b", "leads out"),
        ("..", "leads out"),
        ("a\\b", "leads out"),
        ("z:a", "leads out"),
        ("Z:", "leads out"),
        ("", "not a name"),
        (".", "not a name"),
        ("a\x1f", "not a name"),
        ("a\x7f", "not a name"),
        ("\x00", "not a name"),
        ("\udcff", "not in Unicode"),
        ("a" * 256, "longer than"),
        ("é" * 128, "longer than"),
        ("/".join(["b" * 255] * 3 + ["b" * 254, "c"]), "longer than"),  # 1020 bytes and five ends
    ],
)
def test_names_that_are_not(name: str, saying: str) -> None:
    with pytest.raises(DataError, match=saying):
        members.plain_name(HERE, name)


def test_a_long_name_is_shown_by_its_start() -> None:
    with pytest.raises(DataError) as caught:
        members.plain_name(HERE, "a" * 300)
    assert f"{'a' * 80!r}... is longer" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("a/B.PY", "runs-code"),
        ("a.pyc", "runs-code"),
        ("a.npz", "replaces-image"),
        ("__MACOSX/a.jpg", "litter"),
        ("a/__MacOSX/b/a.jpg", "litter"),
        ("a/._b.py", "litter"),
        ("a/Desktop.ini", "litter"),
        ("a.py/b.jpg", ""),
        ("._a/b.jpg", ""),
        ("thumbs.db/b.jpg", ""),
        ("a/b.jpg", ""),
        ("a/b", ""),
    ],
)
def test_why_a_file_is_left_out(name: str, cause: str) -> None:
    assert archive._left_out(name) == cause


# ---- the records of a zip (APPNOTE 4.3.14 and 4.3.16) ----


def end_record(count: int, comment: bytes = b"") -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, 0, 0, len(comment)) + comment


def large_end_record(count: int) -> bytes:
    """The second record, and where it is."""
    return (
        b"PK\x06\x06"
        + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, 0, 0)
        + b"PK\x06\x07"
        + struct.pack("<IQI", 0, 0, 1)
    )


@pytest.mark.parametrize(
    ("content", "found", "announced"),
    [
        (end_record(7), 7, 7),
        (end_record(7), 8, 7),
        (end_record(0), 0, 0),
        (b"x" * 100_000 + end_record(7), 7, 7),
        (b"x" * 100 + end_record(7, b"c" * 65535), 7, 7),
        # without a second record 16 bits are all that there is
        (end_record(5), 2**16 + 5, 2**16 + 5),
        (end_record(5), 3 * 2**16 + 4, 3 * 2**16 + 5),
        (end_record(0xFFFF), 0xFFFF, 0xFFFF),
        # with one, it counts where the first is full
        (large_end_record(70_000) + end_record(0xFFFF), 70_000, 70_000),
        (large_end_record(70_000) + end_record(0xFFFF), 69_999, 70_000),
        (large_end_record(2**33) + end_record(0xFFFF), 9, 2**33),
        (b"x" * 100 + large_end_record(70_000) + end_record(0xFFFF, b"c" * 65535), 3, 70_000),
        (large_end_record(70_000) + end_record(9), 9, 9),
        # one that stands in the comment is none
        (end_record(0xFFFF, large_end_record(70_000)), 0xFFFF, 0xFFFF),
    ],
)
def test_how_many_members_a_zip_says_it_has(tmp_path: Path, content: bytes, found: int, announced: int) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    assert zip_members.announced(tmp_path / "a.zip", found) == announced


def zipped(path: Path, *, flags: int = 0, attributes: int = 0, method: int | None = None) -> Path:
    """Write a zip of one member, and these values into its directory."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(zipfile.ZipInfo("a.jpg"), b"x")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<H", content, entry + 8, flags)
    struct.pack_into("<I", content, entry + 38, attributes)
    if method is not None:
        struct.pack_into("<H", content, entry + 10, method)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("flags", [0x1, 0x40, 0x41, 0x801])
def test_a_zip_that_is_encrypted_either_way(tmp_path: Path, flags: int) -> None:
    with pytest.raises(DataError, match="encrypted"):
        archive.unpack(zipped(tmp_path / "a.zip", flags=flags), tmp_path / "out")


@pytest.mark.parametrize("flags", [0x2, 0x8, 0x800])
def test_other_flags_of_a_zip_are_no_encryption(tmp_path: Path, flags: int) -> None:
    assert archive.unpack(zipped(tmp_path / "a.zip", flags=flags), tmp_path / "out").files == 1


@pytest.mark.parametrize(("mode", "sound"), [(0, True), (stat.S_IFREG, True), (stat.S_IFLNK, False), (0o644, True)])
def test_the_kind_of_a_member_is_in_the_high_half_of_its_attributes(tmp_path: Path, mode: int, sound: bool) -> None:
    path = zipped(tmp_path / "a.zip", attributes=mode << 16 | 0x20)
    if sound:
        assert archive.unpack(path, tmp_path / "out").files == 1
    else:
        with pytest.raises(DataError, match="link or a device"):
            archive.unpack(path, tmp_path / "out")


@pytest.mark.parametrize("method", [9, 93, 95, 98])
def test_a_method_that_is_not_read(tmp_path: Path, method: int) -> None:
    said = rf"expected members packed by deflate, bzip2 or LZMA, found 'a.jpg' by method {method}"
    with pytest.raises(DataError, match=said) as caught:
        archive.unpack(zipped(tmp_path / "a.zip", method=method), tmp_path / "out")
    assert caught.value.next_step.startswith("unpack it, and set `path:`")


def test_the_folder_itself_may_be_a_member_of_a_tar(tmp_path: Path) -> None:
    """As `tar -C folder .` writes it; a file of that name is refused."""
    folder, file = tarfile.TarInfo("."), tarfile.TarInfo("./a.jpg")
    folder.type, file.size = tarfile.DIRTYPE, 1
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as packed:
        packed.addfile(folder)
        packed.addfile(file, io.BytesIO(b"x"))
    assert archive.unpack(tmp_path / "a.tgz", tmp_path / "out").files == 1
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("."), io.BytesIO(b""))
    with pytest.raises(DataError, match="not a name"):
        archive.unpack(tmp_path / "b.tgz", tmp_path / "out2")


def test_folders_of_an_archive_are_not_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("there/", b"")
        packed.writestr("there/a.jpg", b"x")
    folder, file = tarfile.TarInfo("there"), tarfile.TarInfo("there/a.jpg")
    folder.type, file.size = tarfile.DIRTYPE, 1
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as packed:
        packed.addfile(folder)
        packed.addfile(file, io.BytesIO(b"x"))
    contents = [archive.unpack(tmp_path / name, tmp_path / f"{name}.out") for name in ("a.zip", "a.tgz")]
    assert [one.files for one in contents] == [1, 1]
    assert contents[0].digest == contents[1].digest


# ---- what is read ----


def member(name: str, size: int, content: bytes) -> members.Member:
    return members.Member(name, size, lambda: io.BytesIO(content))


@pytest.mark.parametrize("size", [0, 1, MIB, 2 * MIB + 5])
def test_a_member_is_read_whole(size: int) -> None:
    content = b"ab" * (size // 2) + b"c" * (size % 2)
    written: list[bytes] = []
    found = archive._consume(member("a", size, content), HERE, written.append)
    assert found == hashlib.sha256(content).digest()
    assert b"".join(written) == content
    assert archive._consume(member("a", size, content), HERE) == found


@pytest.mark.parametrize("claimed", [2, 4])
def test_a_member_holds_what_it_claims(claimed: int) -> None:
    with pytest.raises(DataError, match=f"'a' claims {claimed} bytes and holds 3"):
        archive._consume(member("a", claimed, b"abc"), HERE)


def test_progress_counts_bytes(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    members = [member("a", 3, b"abc"), member("b", 0, b""), member("c", 2, b"de")]
    found = archive._bring(HERE, members, tmp_path / "out", lambda *step: seen.append(step))
    assert seen == [("unpacking", 3, 5), ("unpacking", 3, 5), ("unpacking", 5, 5)]
    assert (found.files, found.bytes, found.skipped) == (3, 5, ())


def test_what_is_left_out_is_listed_by_name(tmp_path: Path) -> None:
    members = [member("z.py", 0, b""), member("b/.DS_Store", 0, b""), member("a.jpg", 1, b"x"), member("c.npy", 0, b"")]
    found = archive._bring(HERE, members, tmp_path / "out", lambda *_: None)
    assert found.skipped == (("b/.DS_Store", "litter"), ("c.npy", "replaces-image"), ("z.py", "runs-code"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg"]


def test_a_target_that_exists_is_not_written_into(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        archive._bring(HERE, [member("a", 1, b"x")], tmp_path, lambda *_: None)


def test_the_digest_by_its_definition() -> None:
    """SHA-256 over each name, a zero byte and the SHA-256 of its content, in the order of the names' UTF-8 bytes."""
    one, two = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
    expected = hashlib.sha256(b"Z\0" + two + b"a\0" + one + "é".encode() + b"\0" + one).hexdigest()
    assert archive._digest({"é": one, "a": one, "Z": two}) == f"sha256:{expected}"


# ---- room, and errors ----


@pytest.mark.parametrize(("sizes", "needed"), [((0,), 0), ((1,), 4096), ((4096,), 4096), ((4097, 4096), 12288)])
def test_room_is_needed_in_whole_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], needed: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(archive, "require_space", lambda folder, count: asked.append(count))
    members = [member(f"{number}", size, b"x" * size) for number, size in enumerate(sizes)]
    archive._bring(HERE, members, tmp_path / "out", lambda *_: None)
    assert asked == [needed]


def test_too_little_room_is_told_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1_500_000}))
    archive.require_space(HERE, 1_500_000)
    with pytest.raises(StorageError, match=r"2,000\.1 MB are needed, 1\.5 MB are free"):
        archive.require_space(HERE, 2_000_100_000)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (zlib.error("bad data"), "truncated or damaged (bad data)"),
        (lzma.LZMAError("bad data"), "truncated or damaged (bad data)"),
        (MemoryError(), "truncated or damaged (MemoryError)"),
        (EOFError(), "truncated or damaged (EOFError)"),
        (struct.error("short"), "truncated or damaged (short)"),
        (zipfile.BadZipFile("no"), "truncated or damaged (no)"),
        (tarfile.ReadError("no"), "truncated or damaged (no)"),
        (NotImplementedError("zip 9"), "truncated or damaged (zip 9)"),
        (RecursionError("deep"), "truncated or damaged (deep)"),
        (ValueError("offset"), "truncated or damaged (offset)"),
        (OSError("not a gzip"), "truncated or damaged (not a gzip)"),
        (OSError(errno.EINVAL, "wrong offset"), "wrong offset)"),
    ],
)
def test_errors_of_a_broken_archive_become_one(error: Exception, said: str) -> None:
    with pytest.raises(DataError) as caught, members.readable(HERE):
        raise error
    assert str(caught.value).startswith("a.zip: it is truncated or damaged (")
    assert said in str(caught.value)
    assert caught.value.__cause__ is error


def test_errors_of_the_disk_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="full") as caught, members.readable(HERE):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(StorageError, match=r"there: cannot be read \(denied\)"), members.readable(HERE):
        raise PermissionError(errno.EACCES, "denied", "there")


# ---- extended headers of a tar, and what is no file ----


def tar_with_pax(path: Path, *headers: bytes) -> Path:
    """Write a .tar.gz of one file `x.txt` after these extended headers, byte for byte as given."""
    body = b""
    for kind, name, content in [*((tarfile.XHDTYPE, "PaxHeaders/x", one) for one in headers), (b"0", "x.txt", b"text")]:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(content)
        body += info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    path.write_bytes(gzip.compress(body + bytes(1024)))
    return path


def test_a_tar_with_ordinary_extended_headers_is_unpacked(tmp_path: Path) -> None:
    packed = tar_with_pax(tmp_path / "a.tar.gz", b"30 mtime=1700000000.123456789\n18 comment=a = \xc3\xa9\n", b"")
    assert archive.unpack(packed, tmp_path / "out").files == 1
    assert (tmp_path / "out/x.txt").read_bytes() == b"text"


@pytest.mark.parametrize(
    "header",
    [
        b"1" * 60_000,  # digits alone: the standard library takes quadratic time
        b"1" * 200,
        b"60000 comment=" + b"1" * (60_000 - 15) + b"\n",  # digits in a value
        b"0 a=b\n",
        b"6 a=b\n6 a=b",  # cut
        b"3 a=b\n",  # a length that ends before its value
        b"99 a=b\n",  # one that ends after the header
        b"8 a=b\n\0\0",  # no line end where it should be
        b"10 " + b"a" * 7,
        b"9 a=" + b"b" * 70_000,
    ],
)
def test_a_malformed_extended_header_refuses_the_archive(tmp_path: Path, header: bytes) -> None:
    packed = tar_with_pax(tmp_path / "a.tar.gz", header)
    with pytest.raises(DataError, match=r"truncated or damaged \(an extended header"):
        archive.unpack(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_extended_headers_are_limited_in_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tar_with_pax(tmp_path / "a.tar.gz", b"6 a=b\n", b"6 a=b\n")
    monkeypatch.setattr(tar_stream, "MAX_HEADERS", 12)
    assert archive.unpack(packed, tmp_path / "out").files == 1
    monkeypatch.setattr(tar_stream, "MAX_HEADERS", 11)
    with pytest.raises(DataError, match="longer than any header"):
        archive.unpack(packed, tmp_path / "out2")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_no_archive(tmp_path: Path) -> None:
    """Opening it would wait for a writer without end, so this test would never finish."""
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"a\.zip: expected a regular file .*, found a named pipe"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="this system has no /dev/zero")
def test_a_device_and_a_folder_are_no_archives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found a device"):
        archive.unpack(Path("/dev/zero"), tmp_path / "out")
    with pytest.raises(DataError, match="found a folder"):
        archive.unpack(tmp_path, tmp_path / "out")


def test_a_zip_of_many_members(tmp_path: Path) -> None:
    """More than Python keeps one object a number for."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for number in range(300):
            packed.writestr(f"{number}", b"")
    with archive._opened(tmp_path / "a.zip") as members:
        assert [one.name for one in members] == [f"{number}" for number in range(300)]


def test_records_are_fixed() -> None:
    assert archive.Contents in records(archive)
    assert all(map(is_fixed, (*records(archive), *records(members))))
