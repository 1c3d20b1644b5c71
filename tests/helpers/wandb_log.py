"""Reads a run's `.wandb` file back (LevelDB's log framing around W&B's own records). Independent of fmask."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


@dataclass
class WandbLog:
    """What one run folder holds. The keys of nested values are joined with a dot."""

    run_id: str = ""
    project: str = ""
    name: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None

    def metrics(self) -> dict[int, dict[str, Any]]:
        """The rows of metrics by their epoch, without W&B's own values."""
        return {
            row["epoch"]: {key: value for key, value in row.items() if not key.startswith("_") and key != "epoch"}
            for row in self.rows
            if not any(key.endswith("._type") for key in row)
        }


@dataclass(frozen=True)
class Artifact:
    """An artifact as logged; `used` says that it is an input of the run."""

    kind: str
    name: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: tuple[str, ...]
    used: bool


def read_run(folder: Path) -> WandbLog:
    """Read the one `.wandb` file in a run folder."""
    (path,) = folder.glob("*.wandb")
    log = WandbLog()
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            log.run_id, log.project, log.name = record.run.run_id, record.run.project, record.run.display_name
            log.config |= _values(record.run.config.update)
        elif kind == "config":
            log.config |= _values(record.config.update)
        elif kind == "history":
            log.rows.append(_values(record.history.item))
        elif kind == "summary":
            log.summary |= _values(record.summary.update)
        elif kind == "artifact":
            log.artifacts.append(_artifact(record.artifact))
        elif kind == "files":
            log.files += [file.path for file in record.files.files]
        elif kind == "exit":
            log.exit_code = record.exit.exit_code
    return log


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders below a tracker's folder, oldest first."""
    return sorted(path.parent for path in folder.glob("wandb/*/*.wandb"))


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _artifact(record: Any) -> Artifact:
    return Artifact(
        kind=record.type,
        name=record.name,
        aliases=tuple(record.aliases),
        metadata=json.loads(record.metadata or "{}"),
        files=tuple(entry.path for entry in record.manifest.contents),
        used=record.use_after_commit,
    )


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    assert data[:4] == b":W&B", data[:7]
    position, content = 7, b""
    while position + _HEADER.size <= len(data):
        if _BLOCK - position % _BLOCK < _HEADER.size:
            position += _BLOCK - position % _BLOCK
            continue
        checksum, length, kind = _HEADER.unpack_from(data, position)
        chunk = data[position + _HEADER.size : position + _HEADER.size + length]
        if len(chunk) < length or kind == 0:
            return  # a tail that a crash has torn
        assert zlib.crc32(bytes([kind]) + chunk) == checksum, f"bad checksum at byte {position}"
        position += _HEADER.size + length
        content = chunk if kind in (_FULL, _FIRST) else content + chunk
        if kind in (_FULL, _LAST):
            record = Record()
            record.ParseFromString(content)
            yield record
