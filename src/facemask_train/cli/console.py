"""The output of a command: its result on standard output, everything else on standard error.

Anything that packages print goes to standard error, so that a result can be piped.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from facemask_train.cli.options import Json, Quiet, Verbose
from facemask_train.core.dist_env import is_worker
from facemask_train.core.errors import FmaskError, PeerError, UsageError

INTERRUPTED = 130


@dataclass
class Terminal:
    """Standard output and error of one command."""

    out: TextIO
    as_json: bool
    quiet: bool
    bar: Any = None
    printed: bool = False

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the progress bar (a `records.Progress`)."""
        if self.bar is not None:
            self.bar.move(what, done, total)

    def confirm(self, told: Sequence[str], question: str) -> bool:
        """Ask on standard error, below lines that say what is at stake; return whether the answer is yes.

        Raises:
            UsageError: standard input is not a terminal, so nobody can answer.
        """
        if self.bar is not None:
            self.bar.stop()
        sys.stderr.write("".join(f"{line}\n" for line in told))
        if not sys.stdin.isatty():
            raise UsageError(f"{question} Nobody can answer here", next_step="run it again with --yes")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def result(self, data: Mapping[str, object], *shown: Any) -> None:
        """Print the result: one JSON object, or tables and lines."""
        if self.bar is not None:
            self.bar.stop()
        self.printed = True
        if self.as_json:
            self.out.write(json.dumps(data, ensure_ascii=False) + "\n")
        elif not self.quiet:
            from rich.console import Console

            console = Console(file=self.out, highlight=False)
            for item in shown:
                is_text = isinstance(item, str)
                console.print(item, soft_wrap=is_text, markup=not is_text)  # never wrap paths or lines to paste
        self.out.flush()


def command(body: Callable[..., None]) -> Callable[..., None]:
    """Return a command that runs `body` with a `Terminal`: with its own options and the three common ones."""
    signature = inspect.signature(body, eval_str=True)

    @functools.wraps(body)
    def run(*, as_json: bool, quiet: bool, debug: bool, **given: Any) -> None:
        with terminal(as_json=as_json, quiet=quiet, debug=debug) as term:
            body(term, **given)

    _, *own = signature.parameters.values()  # the first parameter is the terminal
    added = {"as_json": Json, "quiet": Quiet, "debug": Verbose}
    every = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in added.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *every])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *every)}  # typer would evaluate the texts again
    return run


@contextmanager
def terminal(*, as_json: bool, quiet: bool, debug: bool) -> Iterator[Terminal]:
    """Run the body of a command: redirect output, log, show progress, and turn errors into messages and exit codes.

    If `torchrun` started several processes, only the first one prints; the others report only errors.
    """
    out = _real_stdout()
    if is_worker():
        as_json, quiet = False, True
    bar = None if quiet else _bar()
    handler = _Log(bar)
    logger = logging.getLogger("facemask_train")
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.DEBUG if debug else logging.INFO)
    found = Terminal(out, as_json, quiet, bar=bar)
    try:
        yield found
    except FmaskError as error:
        reported = isinstance(error, PeerError) and error.reported
        _fail(found, str(error), error.next_step, error.exit_code, debug=debug, reported=reported)
    except KeyboardInterrupt:
        _fail(
            found, "interrupted", "run the same command again: it continues, or starts over", INTERRUPTED, debug=debug
        )
    except Exception as error:  # noqa: BLE001 - no traceback without --debug
        message = f"unexpected {type(error).__name__}: {error}"
        _fail(found, message, "run it again with --debug, and report the output", FmaskError.exit_code, debug=debug)
    finally:
        if found.bar is not None:
            found.bar.stop()
        logger.removeHandler(handler)


def _real_stdout() -> TextIO:
    """Return a stream to the real standard output, and redirect descriptor 1 to standard error."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding or "utf-8", errors="replace")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out


class _Log(logging.StreamHandler[TextIO]):
    """Prints log messages above the bar, and training epochs as rows of its table; without a bar, plain lines."""

    def __init__(self, bar: Any) -> None:
        super().__init__(sys.stderr)
        self.bar = bar

    def emit(self, record: logging.LogRecord) -> None:
        epochs = getattr(record, "epochs", None)
        if self.bar is None or not self.bar.live.is_started:
            super().emit(record)
        elif epochs is not None:
            self.bar.show(epochs)
        else:
            self.bar.console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


def _bar() -> Any:
    """Return a progress bar, or None if standard error is not a terminal with a movable cursor."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return None
    from rich.console import Console

    from facemask_train.cli.progress import Live

    bar = Live(Console(stderr=True))
    bar.start()
    return bar


def _fail(
    terminal: Terminal, message: str, next_step: str, exit_code: int, *, debug: bool, reported: bool = False
) -> None:
    """Print the error and the next step (unless another process has `reported` it), and exit."""
    if terminal.bar is not None:
        terminal.bar.stop()
    if debug:
        traceback.print_exc(file=sys.stderr)
    if not reported:
        sys.stderr.write(f"error: {message}\n" + (f"next: {next_step}\n" if next_step else ""))
    if terminal.as_json and not terminal.printed:  # one object in any case
        error = {"message": message, "next_step": next_step, "exit_code": exit_code}
        terminal.out.write(json.dumps({"error": error}, ensure_ascii=False) + "\n")
        terminal.out.flush()
    sys.exit(exit_code)
