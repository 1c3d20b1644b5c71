"""Downloads from Kaggle: the only module that imports the `kaggle` package, and limits its side effects.

The package signs in and prints when it is imported, sets no timeouts, shows the key where the environment asks it to
be verbose, and ends the process if there is no key. This module prevents all of that. Does not unpack archives.
"""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from facemask_train.core import files
from facemask_train.core.errors import CredentialsError, FmaskError, NetworkError
from facemask_train.core.types import Progress, no_progress
from facemask_train.sources.archive import require_space

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0
"""Seconds to connect, and between two bytes, after which a request fails."""
ATTEMPTS, PAUSE = 3, 2.0
"""How often a broken download is resumed automatically, and the seconds before the first retry (doubled each time)."""

_CHUNK = 64 * 1024  # bytes that an interruption can lose: the package writes whole chunks
_POLL = 0.2
_VERBOSE = ("VERBOSE", "VERBOSE_OUTPUT")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """A downloaded archive, not yet verified. `modified` is the modification time on Kaggle in UTC, if known."""

    path: Path
    version: int | None
    license: str
    modified: str | None


def page(handle: str) -> str:
    """Return the address of a dataset's page, where a user can download it or accept its license."""
    return f"https://www.kaggle.com/datasets/{handle}"


def download(handle: str, folder: Path, *, version: int | None = None, progress: Progress = no_progress) -> Download:
    """Download a dataset's archive into `folder`, and resume an incomplete download that is there.

    Args:
        handle: Kaggle's owner/name.
        version: the dataset's version; the current one if it is None.

    Raises:
        CredentialsError: no token, a refused one, or a license that is not accepted yet.
        NetworkError: no network, no answer in time, or an unusable answer.
        StorageError: there is not enough disk space for the archive.
    """
    with _bounded_requests(), redirect_stdout(io.StringIO()):
        with _kaggle_errors(handle):
            api = _api_class()()
            api.authenticate()
        with api.build_kaggle_client() as client:
            with _kaggle_errors(handle):
                found = client.datasets.dataset_api_client.get_dataset(_request("ApiGetDatasetRequest", handle))
            version = version or found.current_version_number or None
            _log.info("%s: downloading version %s from Kaggle", handle, version or "unknown")
            path = folder / f"{handle.replace('/', '.')}.{version or 0}" / f"{handle.rpartition('/')[2]}.zip"
            modified = _persist(api, client, _Wanted(handle, version, path), progress)
    return Download(path, version, found.license_name, modified)


@dataclass(frozen=True)
class _Wanted:
    """A version of a dataset, and its file: one for each version, so that two versions are never mixed."""

    handle: str
    version: int | None
    path: Path


def _request(kind: str, handle: str, **fields: Any) -> Any:
    from kagglesdk.datasets.types import dataset_api_service

    request = getattr(dataset_api_service, kind)()
    request.owner_slug, _, request.dataset_slug = handle.partition("/")
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def _persist(api: Any, client: Any, wanted: _Wanted, progress: Progress) -> str | None:
    """Download until the file is complete or `ATTEMPTS` connections have failed; return its modification time."""
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(api, client, wanted, progress)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.Timeout) as error:
            if attempt == ATTEMPTS:
                raise NetworkError(
                    f"{wanted.handle}: the download broke off {ATTEMPTS} times ({type(error).__name__})",
                    next_step=f"run this command again to continue where it stopped; or {_by_hand(wanted.handle)}",
                ) from error
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")


def _attempt(api: Any, client: Any, wanted: _Wanted, progress: Progress) -> str | None:
    """Download with one connection. The next one resumes from the package's partial file and its marker."""
    request = _request("ApiDownloadDatasetRequest", wanted.handle, dataset_version_number=wanted.version)
    with _kaggle_errors(wanted.handle, retried=True):
        response = client.datasets.dataset_api_client.download_dataset(request)
    path, total = wanted.path, int(response.headers.get("Content-Length") or 0)
    with closing(response), files.storage_errors(path), _size_checked(wanted):
        path.parent.mkdir(parents=True, exist_ok=True)
        if api.download_needed(response, str(path)):
            require_space(path.parent, total - _size(path))
            with _watching(path, total, progress):
                api.download_file(
                    response, str(path), client.http_client(), resume=True, chunk_size=_CHUNK, max_retries=0
                )
        if total and _size(path) != total:
            raise ValueError(f"{_size(path)} bytes, {total} expected")
    return _utc(response.headers.get("Last-Modified"))


@contextmanager
def _size_checked(wanted: _Wanted) -> Iterator[None]:
    """Remove a file that does not have the announced size, since it cannot be resumed."""
    try:
        yield
    except ValueError as error:  # the package raises the same error
        wanted.path.unlink(missing_ok=True)
        raise NetworkError(
            f"{wanted.handle}: the downloaded file has the wrong size ({error})",
            next_step=f"run this command again to start a new download; or {_by_hand(wanted.handle)}",
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _utc(header: str | None) -> str | None:
    """Return an HTTP date in ISO form. The package sets the modification time from it as if it were local time."""
    return parsedate_to_datetime(header).astimezone(UTC).isoformat() if header else None


@contextmanager
def _watching(path: Path, total: int, progress: Progress) -> Iterator[None]:
    """Report the size of the file while the package writes it, since its progress bar only works in a terminal."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_POLL):
            progress("downloading", _size(path), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        progress("downloading", _size(path), total)


# Limits on the package


def _api_class() -> Any:
    """Import the package's `KaggleApi` without the request that its import makes, and without its verbose mode.

    In verbose mode it prints the headers of its requests, and the key is one of them.
    """
    hidden = {name: os.environ.pop(name) for name in _VERBOSE if name in os.environ}
    try:
        with _sending(_refuse), files.storage_errors(Path("~/.kaggle").expanduser()):
            from kaggle.api.kaggle_api_extended import KaggleApi
    finally:
        os.environ.update(hidden)
    return KaggleApi


def _refuse(*_: Any, **__: Any) -> Any:
    import requests

    raise requests.ConnectionError("no requests at import")


@contextmanager
def _bounded_requests() -> Iterator[None]:
    """Set a timeout for every request: most of the package's have none, and the others wait for minutes."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def bounded(adapter: HTTPAdapter, request: Any, **options: Any) -> Any:
        return send(adapter, request, **{**options, "timeout": (CONNECT_TIMEOUT, READ_TIMEOUT)})

    with _sending(bounded):
        yield


@contextmanager
def _sending(send: Callable[..., Any]) -> Iterator[None]:
    """Let `send` handle the requests of every session that the package opens."""
    from requests.adapters import HTTPAdapter

    before = HTTPAdapter.send
    HTTPAdapter.send = send  # type: ignore[method-assign]
    try:
        yield
    finally:
        HTTPAdapter.send = before  # type: ignore[method-assign]


@contextmanager
def _kaggle_errors(handle: str, *, retried: bool = False) -> Iterator[None]:
    """Turn the errors of a request with the key into fmask's errors.

    Errors that could quote the key (as part of a header, or as a file name) are not chained, because a traceback would
    show it. With `retried`, a broken connection is left to the caller.
    """
    import requests

    try:
        yield
    except SystemExit:
        raise CredentialsError("there is no usable Kaggle token", next_step=_token_help(handle)) from None
    except requests.exceptions.InvalidHeader:
        raise _unusable(handle) from None
    except json.JSONDecodeError as error:
        raise NetworkError(
            f"{handle}: the response is not JSON, so it is not from Kaggle (a proxy, or a login page of the network?)",
            next_step=f"open https://www.kaggle.com in a browser, then run this command again; or {_by_hand(handle)}",
        ) from error
    except requests.HTTPError as error:
        raise _refused(handle, error.response.status_code) from error
    except requests.RequestException as error:
        if retried:
            raise
        raise NetworkError(
            f"{handle}: Kaggle cannot be reached ({type(error).__name__})",
            next_step=f"check the network and run this command again; or {_by_hand(handle)}",
        ) from error
    except (ValueError, OSError):
        raise _unusable(handle) from None


def _unusable(handle: str) -> CredentialsError:
    return CredentialsError(
        "the Kaggle token cannot be used: it is unreadable, or contains a line break or a character that is not ASCII",
        next_step=_token_help(handle),
    )


def _refused(handle: str, status: int) -> FmaskError:
    """Return the error for an HTTP status of 400 or more."""
    if status == 401:
        return CredentialsError("Kaggle refuses the token (401)", next_step=_token_help(handle))
    if status == 403:
        return CredentialsError(
            f"Kaggle does not let this account download {handle} (403): its license may not be accepted yet",
            next_step=f"sign in, accept the license on {page(handle)}, then run this command again",
        )
    if status == 404:
        return NetworkError(
            f"Kaggle has no dataset {handle}, or not this version of it (404)",
            next_step=f"look at {page(handle)} and correct the handle and version in configs/sources.yaml",
        )
    if status == 429:
        return NetworkError(
            f"{handle}: too many requests to Kaggle (429)",
            next_step=f"try again in some minutes; or {_by_hand(handle)}",
        )
    return NetworkError(
        f"{handle}: Kaggle answered with an error ({status})", next_step=f"try again later; or {_by_hand(handle)}"
    )


def _token_help(handle: str) -> str:
    return (
        "get a token on https://www.kaggle.com/settings and put it into ~/.kaggle/kaggle.json or KAGGLE_API_TOKEN; "
        f"or {_by_hand(handle)}"
    )


def _by_hand(handle: str) -> str:
    return f"without a token: download {page(handle)} by hand and add `--from THE_FILE`"
