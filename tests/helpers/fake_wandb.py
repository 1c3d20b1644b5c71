"""A fake W&B backend on 127.0.0.1 that records requests, and can refuse, hang or stop. Does not import wandb."""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef" * 2 + "01234567"
"""A key of the form that the `wandb` package accepts."""


@dataclass
class Run:
    """What the server holds of one run. `history` maps a line's offset to the row, as W&B's file stream does."""

    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    complete: bool = False
    exit_code: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.history[line] for line in sorted(self.history)]


class FakeWandb(ThreadingHTTPServer):
    """`runs` and `artifacts` are what arrived; `refused` names the operations that get an error.

    An operation is the name of a GraphQL query or mutation, or `file_stream`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Run] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.used: list[str] = []
        self.refused: set[str] = set()
        self.calls: list[str] = []
        self.answering = threading.Event()
        self.answering.set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def hang(self) -> None:
        """From now on take connections and requests, and answer none."""
        self.answering.clear()

    def die(self) -> None:
        """Close the port: from now on every connection is refused."""
        self.answering.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0 closes each connection, so that a dead server leaves none open behind it.
    protocol_version = "HTTP/1.0"
    server: FakeWandb

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/file_stream"):
            self.server.calls.append("file_stream")
            if "file_stream" in self.server.refused:
                return self._answer({"error": "refused"}, status=404)
            _keep_stream(self._run(self.path.split("/")[-2]), json.loads(body))
            return self._answer({"exitcode": None, "limits": {}})
        if not self.path.endswith("/graphql"):
            return self._answer({})
        query = json.loads(body)
        name = re.findall(r"(?:query|mutation)\s+(\w+)", query["query"])[0]
        self.server.calls.append(name)
        if name in self.server.refused:
            return self._answer({"data": None, "errors": [{"message": f"{name} refused"}]})
        answer = getattr(self, f"_{name}", lambda _: {})
        return self._answer({"data": answer(query.get("variables") or {})})

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(chunks)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body

    def _answer(self, content: dict[str, Any], *, status: int = 200) -> None:
        self.server.answering.wait()
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _run(self, name: str) -> Run:
        return self.server.runs.setdefault(name, Run())

    def _Viewer(self, _: Any) -> Any:  # noqa: N802
        return {"viewer": {"id": "VXNlcg", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _ArtifactType(self, _: Any) -> Any:  # noqa: N802
        return {"project": None}

    def _ServerFeaturesQuery(self, _: Any) -> Any:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, variables: Any) -> Any:  # noqa: N802
        run = self.server.runs.get(variables["name"])
        if run is None:
            return {"model": None}
        bucket = {
            "id": "QnVja2V0",
            "name": variables["name"],
            "displayName": variables["name"],
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
            "eventsTail": "[]",
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": {}}),
        }
        return {"model": {"id": "UHJv", "name": "p", "entity": {"id": "RW4", "name": "me"}, "bucket": bucket}}

    def _UpsertBucket(self, variables: Any) -> Any:  # noqa: N802
        known = variables.get("name") in self.server.runs
        run = self._run(variables.get("name") or "")
        run.config |= json.loads(variables.get("config") or "{}")
        run.summary |= json.loads(variables.get("summaryMetrics") or "{}")
        bucket = {
            "id": "QnVja2V0",
            "name": variables.get("name"),
            "displayName": variables.get("displayName"),
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": {"id": "UHJv", "name": variables.get("project"), "entity": {"id": "RW4", "name": "me"}},
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": not known}}

    def _CreateRunFiles(self, variables: Any) -> Any:  # noqa: N802
        self._run(variables["run"]).files |= set(variables["files"])
        files = [{"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "QnVja2V0", "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, variables: Any) -> Any:  # noqa: N802
        self.server.artifacts.append(variables["input"])
        artifact = {
            "id": f"QXJ0{len(self.server.artifacts)}",
            "state": "PENDING",
            "artifactSequence": {"id": "U2Vx", "latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, variables: Any) -> Any:  # noqa: N802
        file = {"id": "RmlsZQ", "uploadUrl": f"{self.server.url}/upload/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "TWFu", "file": file}}}

    def _UpdateArtifactManifest(self, variables: Any) -> Any:  # noqa: N802
        file = {"id": "RmlsZQ", "uploadUrl": f"{self.server.url}/upload/manifest", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": "TWFu", "file": file}}}

    def _CreateArtifactFiles(self, variables: Any) -> Any:  # noqa: N802
        nodes = [
            {
                "id": f"RmlsZ{number}",
                "name": file["name"],
                "displayName": file["name"],
                "storagePath": None,
                "uploadUrl": f"{self.server.url}/upload/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for number, file in enumerate(variables["input"]["artifactFiles"])
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, variables: Any) -> Any:  # noqa: N802
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "0"}}}

    def _ArtifactByID(self, variables: Any) -> Any:  # noqa: N802
        made = self.server.artifacts[int(variables["id"][4:]) - 1]
        project = {"id": "UHJv", "internalId": "UHJv", "name": "p", "entity": {"name": "me"}}
        artifact = {
            "__typename": "Artifact",
            "id": variables["id"],
            "artifactSequence": {
                "__typename": "ArtifactSequence",
                "id": "U2Vx",
                "name": made["artifactCollectionName"],
                "project": project,
            },
            "versionIndex": 0,
            "artifactType": {"name": made["artifactTypeName"]},
            "description": None,
            "metadata": made["metadata"],
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": 1,
            "digest": made["digest"],
            "commitHash": "0",
            "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "aliases": [],
        }
        return {"artifact": artifact}

    def _UseArtifact(self, variables: Any) -> Any:  # noqa: N802
        self.server.used.append(variables["input"]["artifactID"])
        return {"useArtifact": {"artifact": {"id": variables["input"]["artifactID"]}}}


def _keep_stream(run: Run, content: dict[str, Any]) -> None:
    for name, chunk in (content.get("files") or {}).items():
        lines = [json.loads(line) for line in chunk["content"]] if name.endswith((".jsonl", "summary.json")) else []
        if name == "wandb-history.jsonl":
            run.history |= {chunk["offset"] + number: row for number, row in enumerate(lines)}
        elif name == "wandb-summary.json" and lines:
            run.summary = lines[-1]
    if content.get("complete"):
        run.complete, run.exit_code = True, content.get("exitcode")
