"""Downloads: the real `kaggle` package with a fake Kaggle on 127.0.0.1 that works or fails."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from requests import ReadTimeout
from requests.adapters import HTTPAdapter

from facemask_train.core.errors import CredentialsError, FmaskError, NetworkError, StorageError
from facemask_train.sources import kaggle
from helpers.fake_kaggle import FakeKaggle

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several of the package's chunks
KEY = "KGAT_0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", KEY)
    monkeypatch.setattr(kaggle, "PAUSE", 0.01)
    monkeypatch.setattr(kaggle, "READ_TIMEOUT", 60.0)


@pytest.fixture
def fake() -> Iterator[FakeKaggle]:
    with FakeKaggle(CONTENT) as server:
        yield server


def failure(folder: Path, **options: int) -> FmaskError:
    """Download, and return the error, in which the key is nowhere."""
    with pytest.raises(FmaskError) as caught:
        kaggle.download("owner/name", folder, **options)  # type: ignore[arg-type]
    text = "".join(traceback.format_exception(caught.value)) + caught.value.next_step
    assert KEY not in text
    return caught.value


# Fair weather


def test_a_download(fake: FakeKaggle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, int, int]] = []
    found = kaggle.download("owner/name", tmp_path, progress=lambda *step: seen.append(step))
    assert found.path.read_bytes() == CONTENT
    assert found.path.name == "name.zip"
    assert (found.version, found.license) == (3, "CC0: Public Domain")
    assert found.modified == "2020-05-22T01:11:47+00:00"
    assert seen[-1] == ("downloading", len(CONTENT), len(CONTENT))
    assert fake.of("DownloadDataset") == [{"ownerSlug": "owner", "datasetSlug": "name", "datasetVersionNumber": 3}]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [found.path]
    assert capfd.readouterr() == ("", "")


def test_a_pinned_version(fake: FakeKaggle, tmp_path: Path) -> None:
    assert kaggle.download("owner/name", tmp_path, version=2).version == 2
    assert fake.of("DownloadDataset")[0]["datasetVersionNumber"] == 2


def test_the_user_name_and_key_of_kaggle_json(
    fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    kaggle.download("owner/name", tmp_path)
    assert {key.split()[0] for key in fake.keys} == {"Basic"}


def test_the_time_is_kaggles_in_every_time_zone(fake: FakeKaggle, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/Lima")
        time.tzset()
        modified = kaggle.download("owner/name", tmp_path).modified
    time.tzset()
    assert modified == "2020-05-22T01:11:47+00:00"


def test_a_whole_file_is_not_downloaded_twice(fake: FakeKaggle, tmp_path: Path) -> None:
    first = kaggle.download("owner/name", tmp_path)
    before = first.path.stat()
    assert kaggle.download("owner/name", tmp_path) == first
    assert first.path.stat() == before
    assert "Range" not in str(fake.received)


# Broken connections


def test_a_broken_download_is_resumed(fake: FakeKaggle, tmp_path: Path) -> None:
    fake.cuts = [400_000]
    assert kaggle.download("owner/name", tmp_path).path.read_bytes() == CONTENT
    (resumed,) = [span for span in fake.of("GET") if span]
    assert 300_000 < int(resumed.removeprefix("bytes=").rstrip("-")) <= 400_000


def test_the_next_run_resumes(fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "ATTEMPTS", 1)
    fake.cuts = [400_000]
    error = failure(tmp_path)
    assert isinstance(error, NetworkError)
    assert "continue where it stopped" in error.next_step
    assert kaggle.download("owner/name", tmp_path).path.read_bytes() == CONTENT
    (resumed,) = [span for span in fake.of("GET") if span]
    assert 300_000 < int(resumed.removeprefix("bytes=").rstrip("-")) <= 400_000


def test_the_next_run_does_not_add_to_another_archive(
    fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle, "ATTEMPTS", 1)
    fake.cuts = [400_000]
    failure(tmp_path)
    fake.content = CONTENT[::-1]
    assert kaggle.download("owner/name", tmp_path).path.read_bytes() == CONTENT[::-1]


def test_a_connection_that_always_breaks(fake: FakeKaggle, tmp_path: Path) -> None:
    fake.cuts = [1000] * 100
    error = failure(tmp_path)
    assert isinstance(error, NetworkError)
    assert "broke off 3 times" in str(error)
    assert "--from" in error.next_step


@pytest.mark.timeout(120)  # a request without a limit would wait for ever
def test_the_timeout_of_a_request_is_observed(
    fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle, "READ_TIMEOUT", 0.2)
    fake.silent = {"IntrospectToken"}
    error = failure(tmp_path)
    assert isinstance(error, NetworkError)
    assert "(ReadTimeout)" in str(error)


@pytest.mark.parametrize(
    ("method", "count"),
    [("IntrospectToken", 1), ("GetDataset", 1), ("DownloadDataset", kaggle.ATTEMPTS), ("archive", kaggle.ATTEMPTS)],
)
def test_a_server_that_never_answers(
    fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, count: int
) -> None:
    """Every request has a limit; where one runs out is decided here, not by how fast this machine is."""
    send, silent = HTTPAdapter.send, []

    def limited(adapter: HTTPAdapter, request: Any, **options: Any) -> Any:
        assert options["timeout"] == (kaggle.CONNECT_TIMEOUT, kaggle.READ_TIMEOUT)
        if request.path_url.partition("?")[0].rpartition("/")[2] != method:
            return send(adapter, request, **options)
        silent.append(method)
        raise ReadTimeout("no answer")

    monkeypatch.setattr(HTTPAdapter, "send", limited)
    error = failure(tmp_path)
    assert isinstance(error, NetworkError)
    assert "(ReadTimeout)" in str(error)
    assert "--from" in error.next_step
    assert len(silent) == count


def test_no_network(tmp_path: Path) -> None:
    with FakeKaggle(CONTENT):
        pass  # its port is closed again, and the package still points there
    error = failure(tmp_path)
    assert isinstance(error, NetworkError)
    assert "cannot be reached" in str(error)
    assert "--from" in error.next_step


# Refusals


REFUSALS = {
    401: (CredentialsError, "refuses the token", "~/.kaggle/kaggle.json or KAGGLE_API_TOKEN"),
    403: (CredentialsError, "license", "accept the license on https://www.kaggle.com/datasets/owner/name,"),
    404: (NetworkError, "no dataset owner/name", "https://www.kaggle.com/datasets/owner/name"),
    429: (NetworkError, "too many requests", "in some minutes"),
    500: (NetworkError, "500", "try again later"),
}


@pytest.mark.parametrize("method", ["GetDataset", "DownloadDataset", "GET"])
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal(fake: FakeKaggle, tmp_path: Path, method: str, status: int) -> None:
    kind, saying, step = REFUSALS[status]
    fake.status = {method: status}
    error = failure(tmp_path)
    assert type(error) is kind
    assert saying in str(error)
    assert step in error.next_step
    assert len(fake.of(method)) == 1
    assert not list(tmp_path.rglob("*.zip"))


def test_an_unknown_handle(fake: FakeKaggle, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="no dataset owner/other"):
        kaggle.download("owner/other", tmp_path)


def test_a_token_that_kaggle_refuses(fake: FakeKaggle, tmp_path: Path) -> None:
    fake.status = {"IntrospectToken": 401}
    assert isinstance(failure(tmp_path), CredentialsError)
    fake.status = {"IntrospectToken": 403}
    assert isinstance(failure(tmp_path), CredentialsError)


def test_no_token(fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    error = failure(tmp_path)
    assert isinstance(error, CredentialsError)
    for part in ("~/.kaggle/kaggle.json", "KAGGLE_API_TOKEN", "https://www.kaggle.com/settings", "--from"):
        assert part in error.next_step
    assert fake.received == []


@pytest.mark.parametrize("broken", [f"{KEY}\r\n", f"{KEY}\u2026", KEY * 100])
def test_a_token_that_cannot_be_sent_is_not_shown(
    fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", broken)
    assert isinstance(failure(tmp_path), CredentialsError)


def test_an_html_page_instead_of_json(fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.fake_kaggle import _Handler

    monkeypatch.setattr(_Handler, "_answer_json", lambda self, status, data: self._answer(200, b"<html>log in", {}))
    error = failure(tmp_path)
    assert isinstance(error, NetworkError)
    assert "login page" in str(error)


# The disk


def test_no_disk_space_for_the_archive(fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": len(CONTENT) - 1}))
    assert isinstance(failure(tmp_path), StorageError)
    assert not list(tmp_path.rglob("*.zip"))


def test_a_disk_that_fills_up(fake: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kaggle.api.kaggle_api_extended import KaggleApi

    def full(api: KaggleApi, path: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(KaggleApi, "_write_resume_marker", full)
    error = failure(tmp_path)
    assert isinstance(error, StorageError)
    assert "full" in str(error)


# The key, and the package's manners


def test_the_key_is_in_no_log(fake: FakeKaggle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fake.cuts = [1000]
    found = kaggle.download("owner/name", tmp_path)
    assert any(KEY in key for key in fake.keys)
    assert caplog.records
    assert KEY not in caplog.text + repr(found)


def test_timeouts_are_changed_only_during_downloads(fake: FakeKaggle, tmp_path: Path) -> None:
    from requests.adapters import HTTPAdapter

    before = HTTPAdapter.send
    kaggle.download("owner/name", tmp_path)
    assert HTTPAdapter.send is before


def test_the_first_import_is_silent_and_sends_no_request(fake: FakeKaggle, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, logging\n"
        "from helpers import fake_kaggle\n"
        "fake_kaggle.point(int(sys.argv[1]))\n"
        "from facemask_train.sources import kaggle\n"
        "kaggle.download('owner/name', pathlib.Path(sys.argv[2]))\n"
        "import os\n"
        "assert os.environ['VERBOSE'] == '1'\n"
    )
    environment = {
        **os.environ,
        "VERBOSE": "1",
        "VERBOSE_OUTPUT": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(fake.port), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [method for method, _ in fake.received] == ["IntrospectToken", "GetDataset", "DownloadDataset", "GET"]
