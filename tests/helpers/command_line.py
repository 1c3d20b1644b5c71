"""Runs `fmask` as a user does: in a separate process, without the packages of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def fmask(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facemask_train", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
