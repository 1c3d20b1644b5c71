"""Unpacking: what comes in is what was packed, and nothing hostile comes in at all."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemask_train.core.errors import DataError, StorageError
from facemask_train.sources import archive, members, zip_members

FILES = {"images/a.jpg": b"\xff\xd8image" * 50, "labels/a.txt": b"0 0.5 0.5 0.2 0.2\n", "deep/er/empty.txt": b""}


def zip_of(path: Path, files: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return path


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(tmp_path: Path, source: Path, saying: str) -> None:
    """Assert that a source is refused, with its name and a next step, and that nothing was written outside."""
    bring = archive.copy if source.is_dir() else archive.unpack
    before = {path for path in tmp_path.rglob("*") if "target" not in path.parts}
    with pytest.raises(DataError, match=saying) as caught:
        bring(source, tmp_path / "inner" / "target")
    assert str(source) in str(caught.value)
    assert caught.value.next_step
    assert {path for path in tmp_path.rglob("*") if "target" not in path.parts} - before <= {tmp_path / "inner"}


# What comes in


def test_an_archive_is_unpacked_as_it_is(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    contents = archive.unpack(
        zip_of(tmp_path / "a.zip", FILES), tmp_path / "out", progress=lambda *step: seen.append(step)
    )
    total = sum(map(len, FILES.values()))
    assert content_of(tmp_path / "out") == FILES
    assert (contents.files, contents.bytes, contents.skipped) == (3, total, ())
    assert seen[-1] == ("unpacking", total, total)


def test_the_digest_is_the_documented_one(tmp_path: Path) -> None:
    contents = archive.unpack(zip_of(tmp_path / "a.zip", {"b": b"2", "a/c": b"1"}), tmp_path / "out")
    # printf 'a/c\0%bb\0%b' "$(sha256 of 1)" "$(sha256 of 2)" | sha256sum, with the sums as raw bytes
    assert contents.digest == "sha256:96991d4a7911eaca38698d8430cee1da29e2e3ae264ab336d08556caf07458d8"


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    backwards = dict(reversed(FILES.items()))
    members = [(tarfile.TarInfo(f"./{name}"), content) for name, content in FILES.items()]
    digests = {
        archive.unpack(zip_of(tmp_path / "a.zip", FILES), tmp_path / "1").digest,
        archive.unpack(zip_of(tmp_path / "b.zip", backwards, compression=zipfile.ZIP_STORED), tmp_path / "2").digest,
        archive.unpack(tar_of(tmp_path / "c.tar.gz", members), tmp_path / "3").digest,
        archive.copy(folder_of(tmp_path / "folder", FILES), tmp_path / "4").digest,
        archive.digest_folder(tmp_path / "folder"),
        archive.digest_folder(tmp_path / "1"),
    }
    assert len(digests) == 1
    others = ({**FILES, "new": b""}, {**FILES, "labels/a.txt": b"1 0.5 0.5 0.2 0.2\n"}, {"x": b"", **FILES})
    for number, other in enumerate(others):
        digests.add(archive.digest_folder(folder_of(tmp_path / f"other{number}", other)))
    assert len(digests) == 4


names = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:._"), min_size=1, max_size=12),
    min_size=1,
    max_size=3,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, st.binary(max_size=50), min_size=1, max_size=6))
def test_a_folder_and_its_archives_have_one_digest(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        try:
            unpacked = archive.unpack(zip_of(here / "a.zip", files), here / "out")
        except DataError as error:
            assert "twice" in str(error) or "both a file" in str(error)
            return
        members = [(tarfile.TarInfo(name), content) for name, content in files.items()]
        assert content_of(here / "out") == files
        assert archive.unpack(tar_of(here / "a.tgz", members), here / "tar").digest == unpacked.digest
        assert archive.copy(here / "out", here / "copy") == unpacked
        assert content_of(here / "copy") == files


def test_nothing_that_is_unpacked_is_executable(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("run.txt")
    info.external_attr = (stat.S_IFREG | 0o4777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, b"#!/bin/sh")
    archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/run.txt").stat().st_mode & 0o7111 == 0


# What is left out


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("labels/train.cache", "runs-code"),
        ("labels/TRAIN.CACHE", "runs-code"),
        (".cache", "runs-code"),
        ("loader.py", "runs-code"),
        ("weights/best.pt", "runs-code"),
        ("boxes.pkl", "runs-code"),
        ("images/a.npy", "replaces-image"),
        ("images/a.npz", "replaces-image"),
        ("__MACOSX/images/._a.jpg", "litter"),
        ("images/._a.jpg", "litter"),
        ("images/.DS_Store", "litter"),
        ("Thumbs.db", "litter"),
    ],
)
def test_left_out_and_listed(tmp_path: Path, name: str, cause: str) -> None:
    files = {**FILES, name: b"x"}
    unpacked = archive.unpack(zip_of(tmp_path / "a.zip", files), tmp_path / "out")
    copied = archive.copy(folder_of(tmp_path / "folder", files), tmp_path / "copied")
    assert unpacked.skipped == copied.skipped == ((name, cause),)
    assert content_of(tmp_path / "out") == content_of(tmp_path / "copied") == FILES
    assert unpacked.digest == copied.digest == archive.digest_folder(tmp_path / "out")


# What is refused


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "images/../../a.jpg", "/etc/a.jpg", "//a.jpg", "C:a.jpg", "c:/a.jpg", "..\\a.jpg", "a\\b.jpg", ".."],
)
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    refused(tmp_path, zip_of(tmp_path / "a.zip", {"fine.jpg": b"", name: b"x"}), "leads out")
    refused(tmp_path, tar_of(tmp_path / "a.tar.gz", [(tarfile.TarInfo(name), b"x")]), "leads out")


def test_names_of_left_out_files_and_of_folders_are_checked_too(tmp_path: Path) -> None:
    refused(tmp_path, zip_of(tmp_path / "a.zip", {"fine.jpg": b"", "../a.npy": b"x"}), "leads out")
    refused(tmp_path, zip_of(tmp_path / "b.zip", {"fine.jpg": b"", "../there/": b""}), "leads out")


def test_names_that_no_file_has(tmp_path: Path) -> None:
    refused(tmp_path, zip_of(tmp_path / "a.zip", {"a\nb.jpg": b""}), "not a name")
    refused(tmp_path, zip_of(tmp_path / "b.zip", {"a" * 256: b""}), "longer than")
    refused(tmp_path, zip_of(tmp_path / "c.zip", {"abcdefgh/" * 150 + "a": b""}), "longer than")
    refused(tmp_path, tar_of(tmp_path / "d.tgz", [(tarfile.TarInfo("a\udcff.jpg"), b"")]), "not in Unicode")


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab./\\:C\né~ "), min_size=1, max_size=12))
def test_whatever_its_name_no_member_lands_outside(name: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        outer = Path(temporary)
        zip_of(outer / "a.zip", {name: b"x"})
        with suppress(DataError):
            archive.unpack(outer / "a.zip", outer / "1" / "2" / "out")
        written = [path for path in outer.rglob("*") if path.is_file() and path.name != "a.zip"]
        assert all(path.is_relative_to(outer / "1" / "2" / "out") for path in written)
        if written:
            assert ".." not in PurePosixPath(name).parts


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, b"/etc/passwd")
    refused(tmp_path, tmp_path / "a.zip", "link or a device")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "fine.txt"
    refused(tmp_path, tar_of(tmp_path / "a.tar.gz", [(tarfile.TarInfo("fine.txt"), b"x"), (info, b"")]), "link or a")


def test_links_and_devices_in_a_folder(tmp_path: Path) -> None:
    to_file, to_folder, pipe = (folder_of(tmp_path / name, FILES) for name in ("1", "2", "3"))
    (to_file / "link.jpg").symlink_to(to_file / "images/a.jpg")
    (to_folder / "link").symlink_to(tmp_path)
    os.mkfifo(pipe / "pipe")
    for folder in (to_file, to_folder, pipe):
        with pytest.raises(DataError, match="link or a device"):
            archive.digest_folder(folder)
        with pytest.raises(DataError, match="link or a device"):
            archive.copy(folder, tmp_path / "out" / folder.name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["images/a.jpg", "IMAGES/A.jpg", "images/./a.jpg"])
def test_the_same_name_twice(tmp_path: Path, second: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("images/a.jpg", b"1")
        packed.writestr(second, b"2")
    refused(tmp_path, tmp_path / "a.zip", "twice")


def test_the_same_name_in_two_forms_of_unicode(tmp_path: Path) -> None:
    refused(tmp_path, zip_of(tmp_path / "a.zip", {"caf\u00e9.jpg": b"1", "cafe\u0301.jpg": b"2"}), "twice")


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    refused(tmp_path, zip_of(tmp_path / "a.zip", {"a": b"1", "A/b": b"2"}), "both a file and a folder")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_ENTRIES", 3)
    archive.unpack(zip_of(tmp_path / "a.zip", dict.fromkeys("abc", b"")), tmp_path / "out")
    refused(tmp_path, zip_of(tmp_path / "b.zip", dict.fromkeys("abcd", b"")), "more than 3 members")
    refused(tmp_path, folder_of(tmp_path / "folder", dict.fromkeys("abcd", b"")), "more than 3 members")


def test_too_much_when_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_BYTES", 1000)
    archive.unpack(zip_of(tmp_path / "a.zip", {"a": bytes(500), "b": bytes(500)}), tmp_path / "out")
    refused(tmp_path, zip_of(tmp_path / "b.zip", {"a": bytes(500), "b": bytes(501)}), "expands to more than 0.0 MB")


@pytest.mark.parametrize("pack", ["zip", "tar.gz"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, pack: str) -> None:
    bomb = {"bomb.txt": bytes(members.SMALL + 1)}
    if pack == "zip":
        path = zip_of(tmp_path / "a.zip", bomb)
    else:
        path = tar_of(tmp_path / "a.tar.gz", [(tarfile.TarInfo(name), content) for name, content in bomb.items()])
    refused(tmp_path, path, "100 times its size")
    assert not (tmp_path / "inner").exists()


def test_a_tar_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type = tarfile.GNUTYPE_LONGNAME
    refused(tmp_path, tar_of(tmp_path / "a.tar.gz", [(info, bytes(17 * 1024**2))]), "truncated or damaged")


def test_encrypted_members(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.jpg": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(tmp_path, path, "encrypted")


@pytest.mark.parametrize(
    ("content", "saying"),
    [
        (b"<html>please log in</html>", "found something else"),
        (b"", "found something else"),
        (b"PK\x03\x04 and no more", "truncated or damaged"),
        (b"\x1f\x8b\x08 and no more", "truncated or damaged"),
        (b"\xfd7zXZ\x00 and no more", "truncated or damaged"),
        (b"BZh9 and no more", "truncated or damaged"),
        (lzma.compress(b"not a tar"), "truncated or damaged"),
        (lzma.compress(b"a" * 999)[:-9], "truncated or damaged"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, saying: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path, tmp_path / "a.zip", saying)


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_read_as_it_is_or_packed(tmp_path: Path, mode: str, form: int) -> None:
    files = FILES | {"é/" * 60 + "a.txt": b"long name", "big.bin": bytes(range(256)) * 9000}
    with tarfile.open(tmp_path / "a.any", mode, format=form) as packed:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    contents = archive.unpack(tmp_path / "a.any", tmp_path / "out")
    assert content_of(tmp_path / "out") == files
    assert contents.digest == archive.copy(tmp_path / "out", tmp_path / "again").digest


def test_packed_streams_one_after_the_other_are_one(tmp_path: Path) -> None:
    plain = tar_of(tmp_path / "a.tar", [(tarfile.TarInfo(name), content) for name, content in FILES.items()], "w:")
    content = plain.read_bytes()
    for pack in (lzma.compress, bz2.compress):
        (tmp_path / "two").write_bytes(pack(content[:700]) + pack(content[700:]))
        assert archive.unpack(tmp_path / "two", tmp_path / pack.__module__).files == len(FILES)


def test_a_plain_tar_without_its_end_is_truncated(tmp_path: Path) -> None:
    """Cut between two members, nothing but the end mark tells that some are missing."""
    path = tar_of(tmp_path / "a.tar", [(tarfile.TarInfo(name), b"x" * 512) for name in "ab"], "w:")
    path.write_bytes(path.read_bytes()[:1024])
    refused(tmp_path, path, "its end is missing")


@pytest.mark.parametrize(
    ("start", "kind"), [(b"(\xb5/\xfd", "Zstandard"), (b"7z\xbc\xaf'\x1c", "7-Zip"), (b"Rar!\x1a\x07", "RAR")]
)
def test_an_archive_of_another_kind_is_named_and_to_be_unpacked_by_hand(
    tmp_path: Path, start: bytes, kind: str
) -> None:
    (tmp_path / "a.tar.zst").write_bytes(start + bytes(600))
    with pytest.raises(DataError, match=f"found an archive of {kind}") as caught:
        archive.unpack(tmp_path / "a.tar.zst", tmp_path / "out")
    assert caught.value.next_step.startswith("unpack it, and set `path:`")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED])
def test_a_zip_packed_by_another_method(tmp_path: Path, method: int) -> None:
    archive.unpack(zip_of(tmp_path / "a.zip", FILES, compression=method), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


def test_an_archive_with_nothing_to_use(tmp_path: Path) -> None:
    refused(tmp_path, zip_of(tmp_path / "a.zip", {}), "no files")
    refused(tmp_path, zip_of(tmp_path / "b.zip", {"only/": b"", "a.npy": b"x"}), "no files")


def pack_zip(path: Path) -> Path:
    return zip_of(path, FILES)


def pack_lzma_zip(path: Path) -> Path:
    return zip_of(path, FILES, compression=zipfile.ZIP_LZMA)


def pack_tar(path: Path, mode: str = "w:gz") -> Path:
    return tar_of(path, [(tarfile.TarInfo(name), content) for name, content in FILES.items()], mode)


def pack_xz(path: Path) -> Path:
    return pack_tar(path, "w:xz")


def pack_bz2(path: Path) -> Path:
    return pack_tar(path, "w:bz2")


def pack_plain(path: Path) -> Path:
    return pack_tar(path, "w:")


@pytest.mark.parametrize("pack", [pack_zip, pack_tar, pack_xz, pack_bz2, pack_plain, pack_lzma_zip])
def test_a_truncated_archive(tmp_path: Path, pack: Callable[[Path], Path]) -> None:
    whole = pack(tmp_path / "whole").read_bytes()
    whole = whole.rstrip(b"\0") if pack is pack_plain else whole  # the zeros after its end mean nothing
    for length in range(0, len(whole), max(7, len(whole) // 60)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(DataError):
            archive.unpack(tmp_path / "cut", tmp_path / "out" / str(length))


@pytest.mark.parametrize("pack", [pack_zip, pack_tar, pack_xz, pack_bz2, pack_lzma_zip])
def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path, pack: Callable[[Path], Path]) -> None:
    whole = pack(tmp_path / "whole").read_bytes()
    digest = archive.unpack(tmp_path / "whole", tmp_path / "out" / "whole").digest
    noticed = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        (tmp_path / "flipped").write_bytes(flipped)
        try:
            assert archive.unpack(tmp_path / "flipped", tmp_path / "out" / str(position)).digest == digest, position
        except DataError:
            noticed += 1
    assert noticed > len(whole) / 3


def test_an_archive_with_more_members_than_16_bits_can_count(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {f"{number}": b"" for number in range(2**16 + 5)}, compression=zipfile.ZIP_STORED)
    assert zip_members.announced(path, 2**16 + 5) == 2**16 + 5
    content = bytearray(path.read_bytes())
    assert struct.unpack_from("<H", content, len(content) - 12) == (0xFFFF,)
    struct.pack_into("<H", content, len(content) - 12, 5)  # as writers did that know no second record
    path.write_bytes(content)
    assert zip_members.announced(path, 2**16 + 5) == 2**16 + 5
    assert zip_members.announced(path, 2**16 + 4) != 2**16 + 4


# The disk


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "a.zip", dict.fromkeys("abc", b"x"))
    usage = type("Usage", (), {"free": 3 * 4096 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(StorageError, match="free on this disk") as caught:
        archive.unpack(path, tmp_path / "out")
    assert "--root" in caught.value.next_step
    assert content_of(tmp_path / "out") == {}
    usage.free += 1  # type: ignore[attr-defined]
    archive.unpack(path, tmp_path / "out2")


def test_the_icon_of_a_folder_on_a_mac_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in ("images/a.jpg", "Icon\r", "images/Icon\r"):
            packed.writestr(zipfile.ZipInfo(name), b"x")
    contents = archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert contents.skipped == (("Icon\r", "litter"), ("images/Icon\r", "litter"))
    assert contents.files == 1
