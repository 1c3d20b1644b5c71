"""Mutated inputs for every reader, and what must hold of what it makes of them.

A target writes an input to a folder and reads it. It may raise an `FmaskError` and nothing else. What it reads must
balance: every image is there once, and every row has a box or the cause why not, once. Mutations are drawn from a seed,
so each input can be made again. They are not guided by coverage.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, features

from facemask_train import formats
from facemask_train.apps.survey.time_bins import read_table
from facemask_train.core.config import read_sources
from facemask_train.core.errors import FmaskError
from facemask_train.core.recipe import read_recipe
from facemask_train.core.types import Annotation, Box, SourceReading
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.loading.images import ImageFacts, examine_bytes, make_plain
from facemask_train.dataset.loading.validate import LabelRules, validate
from facemask_train.formats import coco, cvat, labelme, voc
from facemask_train.formats.split_lists import read_split_lists
from facemask_train.sources import archive

LABELS = (Annotation("mask", Box(1, 2, 30, 40)), Annotation("no_mask", Box(50.5, 5, 80, 45)))
SIZE = (96, 64)
_FACTS = ImageFacts("a.jpg", "00", *SIZE, SIZE, 1, ".jpg")
_RULES = LabelRules("s", {"mask": "mask", "no_mask": "no_mask", "0": "mask", "1": "no_mask"}, "drop-box")
_TOKENS = (
    *(b"nan", b"inf", b"-1", b"1e309", b"0" * 400, b"9" * 400, b"1_000", b"0,5", b";", b"\t", b"\0", b"\xff\xfe"),
    *(b"\xef\xbb\xbf", b"\r", b"\n" * 50, b"<!DOCTYPE a>", b"&x;", b"<![CDATA[", b"</", b"/>", b"[" * 200, b"{", b"]"),
    *(b"null", b"true", b'"', b"'", b"\\u", b"\\ud800", b"!!python/object:x", b"&a [*a]", b"2026-13-01", b"../../x"),
    *(b"a.jpg", b"train", b"names", b"%C3%A9", b"PK\x05\x06", b"PK\x01\x02", b"\xff\xd9", b"\xff" * 8, b"\x80" * 8),
)


@dataclass(frozen=True)
class Target:
    """A reader: its seeds, and a function that reads an input and returns what does not hold (an empty string: all)."""

    seeds: Sequence[bytes]
    run: Callable[[bytes, Path], str]


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Return a seed after one to eight mutations."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 4, 8, 16, 64)))
        match rng.randrange(8):
            case 0 | 1 if end > start:
                data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
            case 2:
                data[start:end] = b""
            case 3:
                data[start:start] = data[start:end] * rng.choice((1, 2, 50))
            case 4:
                data[start:start] = rng.choice(_TOKENS)
            case 5:
                data[start:end] = rng.choice(_TOKENS)
            case 6:
                other = rng.choice(seeds)
                data[start:] = other[rng.randrange(len(other) + 1) :]
            case _:
                data[start:end] = rng.randbytes(end - start)
    return bytes(data) if rng.random() < 0.95 else bytes(data[: rng.randrange(len(data) + 1)])


def unbalanced(reading: SourceReading) -> str:
    """Return what does not hold of a reading of a folder with the one image `a.jpg`; an empty string if all holds."""
    if [image.path for image in reading.images] != ["a.jpg"]:
        return f"expected the image once, found {[image.path for image in reading.images]}"
    rows = [*reading.images[0].rows, *reading.orphans]
    if not all(bool(row.corners) != bool(row.cause) for row in rows):
        return "a row without a box and a cause, or with both"
    if len({(row.file, row.number) for row in rows}) != len(rows):
        return "a row is there twice"
    found = validate(reading, {"a.jpg": _FACTS}, _RULES)
    kept = sum(len(record.labels) for record in found.records)
    refused = sum(issue.item == "box" and issue.action == "refused" for issue in found.issues)
    return "" if kept + refused == len(rows) else f"{len(rows)} rows, {kept} kept, {refused} refused"


def _reader(layout: str, file: str, others: Mapping[str, bytes] | None = None) -> Callable[[bytes, Path], str]:
    def run(data: bytes, folder: Path) -> str:
        for name, content in {"a.jpg": b"", **(others or {}), file: data}.items():
            (folder / name).write_bytes(content)
        return unbalanced(formats.read(folder, layout, {"a.jpg": SIZE}))

    return run


def _split_lists(data: bytes, folder: Path) -> str:
    (folder / "train.txt").write_bytes(data)
    found = read_split_lists(folder, ["img/a.jpg", "img/b.jpg"])
    return "" if set(found) <= {"img/a.jpg", "img/b.jpg"} else f"found {found}"


def _sources(data: bytes, folder: Path) -> str:
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs/sources.yaml").write_bytes(data)
    return "" if read_sources(folder) else "no source and no error"


def _recipe(data: bytes, folder: Path) -> str:
    (folder / "r.yaml").write_bytes(data)
    return "" if read_recipe(folder, str(folder / "r.yaml")).sources else "no sources and no error"


def _card(data: bytes, folder: Path) -> str:
    (folder / EnsembleCard.FILE).write_bytes(data)
    EnsembleCard.load(folder)
    return ""


def _table(data: bytes, folder: Path) -> str:
    (folder / "places.csv").write_bytes(data)
    return (
        "" if all(one.time is None or one.time.tzinfo is None for _, one in read_table(folder / "places.csv")) else "tz"
    )


def _archive(data: bytes, folder: Path) -> str:
    (folder / "in").write_bytes(data)
    contents = archive.unpack(folder / "in", folder / "out")
    found = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    outside = [path for path in found if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve())]
    return f"outside: {outside}" if outside or len(found) != contents.files + 1 else ""


def _image(data: bytes, folder: Path) -> str:
    facts = examine_bytes(data, "a.jpg", "00").facts
    if bool(facts.cause) == bool(facts.width):
        return f"expected a size or a cause, found {facts}"
    if not facts.cause and facts.width * facts.height < 10**6:
        make_plain(data, facts)
    return ""


def _packed(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for name, content in {"images/é.jpg": b"image" * 9, "labels/a.txt": b"0 0.5 0.5 0.1 0.1\n"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    plain = stream.getvalue()
    return {"": lambda x: x, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[mode](plain)  # type: ignore[operator, no-any-return]


def _zipped(method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as packed:
        packed.writestr("images/é.jpg", b"image" * 9)
        packed.writestr("labels/a.txt", b"0 0.5 0.5 0.1 0.1\n")
    return stream.getvalue()


def _encoded() -> list[bytes]:
    image = Image.radial_gradient("L").resize((24, 20)).convert("RGB")
    kinds = [
        "JPEG",
        "PNG",
        "WEBP",
        "GIF",
        "TIFF",
        "BMP",
        "JPEG2000",
        "MPO",
        *(["AVIF"] if features.check("avif") else []),
    ]
    found = []
    for kind in kinds:
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(stream, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
        found.append(stream.getvalue())
    return found


def targets() -> dict[str, Target]:
    """Return every reader by its name."""
    labeled = {"a.jpg": (*SIZE, LABELS)}
    rows = b"0 0.5 0.5 0.2 0.3\n1 0.2 0.2 0.1 0.1 0.9\n0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n"
    card = {"version": EnsembleCard.VERSION, "name": "v5", "images": {"total": 1}, "notes": [], "splits": {"train": 1}}
    other = labelme.to_json("b.jpg", (), width=1, height=1).encode()
    sources = b"sources:\n  s:\n    path: in\n    classes: {mask: mask, 1: no_mask}\n    limits: {rows: 5}\n"
    tables = [b"file,place,time\na.jpg,gate,2026-11-25T14:30+09:00\n", b"file;time\n*.jpg;2026-11-25\n"]
    return {
        "yolo": Target([rows, rows.replace(b".", b",").replace(b" ", b";"), rows.decode().encode("utf-16")],
                       _reader("yolo", "a.txt", {"classes.txt": b"mask\nno_mask\n"})),
        "yolo-names": Target([b"names: [mask, no_mask]\nkpt_shape: [5, 3]\n", b"names:\n  0: mask\n  1: no_mask\n"],
                             _reader("yolo", "data.yaml", {"a.txt": rows})),
        "yolo-data": Target([b"classes = 2\nnames = data/obj.names\ntrain = train.txt\n"],
                            _reader("yolo", "obj.data", {"a.txt": rows, "obj.names": b"mask\nno_mask\n"})),
        "voc": Target([voc.to_xml("a.jpg", LABELS, width=96, height=64).encode()], _reader("voc", "a.xml")),
        "coco": Target([coco.to_json(labeled).encode()], _reader("coco", "x.json")),
        "cvat": Target([cvat.to_xml(labeled).encode()], _reader("cvat", "annotations.xml")),
        "labelme": Target([labelme.to_json("a.jpg", LABELS, width=96, height=64).encode()],
                          _reader("labelme", "a.json", {"b.json": other})),
        "probe": Target([coco.to_json(labeled).encode(), b'[{"annotations": [{"result": []}]}]', rows],
                        _reader("probe", "x.json")),
        "split-lists": Target([b"img/a.jpg\nimg/b.jpg\n", b"a\nb\n"], _split_lists),
        "sources.yaml": Target([sources], _sources),
        "recipe": Target([b"sources: [s, t]\nsplit: {train: 0.5, val: 0.25, test: 0.25}\nleaks: remove\n"], _recipe),
        "record": Target([json.dumps(card).encode()], _card),
        "places": Target(tables, _table),
        "archive": Target([*map(_packed, ("", "gz", "bz2", "xz")), *map(_zipped, (0, 8, 12, 14))], _archive),
        "image": Target(_encoded(), _image),
    }  # fmt: skip


def failure(target: Target, data: bytes, folder: Path) -> str:
    """Return what is wrong with a reader's answer to an input; an empty string if nothing is."""
    try:
        return target.run(data, folder)
    except FmaskError as error:
        return "" if str(error) else "an error without a message"
    except Exception as error:  # noqa: BLE001 - the point of it
        return f"{type(error).__name__}: {error}"
