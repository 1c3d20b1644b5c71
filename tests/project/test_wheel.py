"""The wheel works outside the checkout, and tab completion works for the installed command."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from facemask_train.cli.app import app

REPO = Path(__file__).parents[2]
SOURCES = ("sample-voc", "sample-yolo", "sample-darknet")


def output_of(*command: str | Path, cwd: Path, **more: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | more
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    output_of(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=REPO)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment that also sees the packages of this one, and return its `fmask`."""
    venv = tmp_path_factory.mktemp("venv")
    output_of(sys.executable, "-m", "venv", "--without-pip", venv, cwd=REPO)
    python = venv / "bin" / "python"
    output_of(
        sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--no-cache", "--python", python, wheel,
        cwd=REPO,
    )  # fmt: skip
    site = Path(output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=REPO).strip())
    # named in a .pth, a folder is searched, and its own .pth (this checkout's) are left alone
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin" / "fmask"


@pytest.mark.slow
def test_the_wheel_contains_the_whole_package(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = {path for path in (REPO / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    wanted = {path.relative_to(REPO / "src").as_posix() for path in package}
    yamls = (path.relative_to(REPO).as_posix() for path in REPO.glob("configs/**/*.yaml"))
    configs = {f"facemask_train/{name}" for name in yamls}
    assert len(configs) > 5
    assert wanted | configs <= inside
    assert not [name for name in inside if name.split("/")[0] in {"tests", "bench", "docs"}]


@pytest.mark.slow
def test_it_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    from facemask_train import __version__

    here = tmp_path / "my masks 😷"
    here.mkdir()
    where = output_of(installed.parent / "python", "-c", "import facemask_train as f; print(f.__file__)", cwd=here)
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    assert output_of(installed, "--version", cwd=here) == f"fmask {__version__}\n"
    assert "build-dataset" in output_of(installed, "--help", cwd=here)
    output_of(installed, "fetch", *SOURCES, cwd=here)
    assert "sample built: 399 images" in output_of(installed, "build-dataset", "--version", "sample", cwd=here)
    assert (here / "data/ensembles/sample/ensemble.json").is_file()


def commands() -> list[str]:
    import typer

    return list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def shell(script: str, **more: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path} | more
    return subprocess.run(["bash", "-ec", script], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("typed", "offered"), [("fmask ''", commands()), ("fmask train --ep", ["--epochs"])])
def test_the_tab_key_completes_in_bash(typed: str, offered: list[str]) -> None:
    script = f"""
    eval "$(fmask --show-completion)"
    COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    _fmask_completion fmask
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert shell(script).split() == offered


def test_the_tab_key_completes_in_zsh() -> None:
    is_completing = "_TYPER_COMPLETE_ARGS" in shell("fmask", _FMASK_COMPLETE="source_zsh")
    offered = shell("fmask", _FMASK_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="fmask ")
    assert is_completing
    assert all(f'"{name}":' in offered for name in commands())


def test_completion_is_installed_for_the_current_shell(tmp_path: Path) -> None:
    shell("fmask --install-completion; true", HOME=str(tmp_path))
    assert "fmask" in (tmp_path / ".bashrc").read_text()
