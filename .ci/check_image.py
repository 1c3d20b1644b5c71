"""Run the Dockerfile's steps without a Docker engine: in a chroot, as root and as the users in it.

    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm BASE
    python .ci/check_image.py BASE --build-arg DEVICE=cuda

BASE replaces the image of FROM, and is not modified. Needs root, the network, and 15 GB for cuda. At the end, the
container's command, its healthcheck and some trials are run as its user.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PASSED_ON = ("PIP_", "UV_", "SSL_")  # how this machine reaches its package registry
TRIALS = (
    ["python", "-c", "import cv2, faiss, gradio, onnxruntime, openvino, torch, torchvision, ultralytics"],
    ["sh", "-c", "test $(id -u) -ne 0"],
    ["sh", "-c", "touch data/a runs/a && rm data/a runs/a"],
    ["sh", "-c", "! touch /opt/fmask/a 2>/dev/null"],
    ["fmask", "fetch", "sample-voc", "--quiet"],
    ["fmask", "build-dataset", "--version", "5", "--help"],
)


@dataclass
class Image:
    """The state of the container so far."""

    root: Path
    arguments: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: str = ""


def steps(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, in capitals, with their arguments; lines are joined, comments removed."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "\n", "\n".join(lines))
    found: list[tuple[str, str]] = []
    open_end = False
    for line, raw in zip(joined.splitlines(), "\n".join(lines).splitlines(), strict=True):
        if open_end:
            name, rest = found[-1]
            found[-1] = name, f"{rest} {line.strip()}"
        elif line.strip():
            name, _, rest = line.strip().partition(" ")
            found.append((name.upper(), rest.strip()))
        open_end = raw.endswith("\\")
    return found


def ignored(name: str, rules: list[str]) -> bool:
    """Say if .dockerignore keeps a name at the top of the folder out of the build; the last rule that fits decides."""
    out = False
    for rule in (line.strip() for line in rules):
        if rule and not rule.startswith("#") and fnmatch.fnmatch(name, rule.removeprefix("!")):
            out = not rule.startswith("!")
    return out


def build(image: Image, text: str, binds: list[str]) -> None:
    """Take every step of a Dockerfile."""
    for name, rest in steps(text):
        print(f"--- {name} {rest[:140]}", file=sys.stderr, flush=True)
        step(image, name, rest, binds)


def step(image: Image, name: str, rest: str, binds: list[str]) -> None:
    match name:
        case "ARG":
            key, _, default = rest.partition("=")
            image.arguments.setdefault(key, default)
        case "FROM" | "EXPOSE" | "VOLUME":
            pass
        case "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                image.environment[key] = value.replace("$PATH", image.environment.get("PATH", PATH))
        case "WORKDIR":
            image.folder = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "COPY":
            copy(image, rest.split())
        case "RUN":
            run(image, ["sh", "-c", rest], binds, **image.arguments)
        case "USER":
            image.user = rest
        case "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        case "CMD":
            image.command = json.loads(rest)
        case "HEALTHCHECK":
            image.health = rest.partition("CMD ")[2]
        case _:
            raise SystemExit(f"{name}: an instruction that this script does not know")


def copy(image: Image, names: list[str]) -> None:
    rules = (HERE / ".dockerignore").read_text().splitlines()
    *sources, target = names
    place = image.root / image.folder.lstrip("/") / target
    for source in sources:
        if ignored(source, rules):
            raise SystemExit(f"COPY {source}: .dockerignore keeps it out of the build")
        if (HERE / source).is_dir():
            shutil.copytree(HERE / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(HERE / source, place / source if target.endswith("/") else place)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTER = """
mount -t proc proc "$ROOT/proc"; mount --rbind /dev "$ROOT/dev"
for path in $BINDS; do
  if [ -d "$path" ]; then mkdir -p "$ROOT$path"; else mkdir -p "$ROOT$(dirname "$path")"; touch "$ROOT$path"; fi
  mount --bind "$path" "$ROOT$path"
done
exec chroot --userspec="$AS" "$ROOT" env --ignore-environment "$@"
"""


def run(image: Image, command: list[str], binds: list[str], **more: str) -> None:
    """Run a command in the container, as its user, in its folder; mounts are gone when it ends."""
    home = "/root" if image.user == "root" else f"/home/{image.user}"
    own = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
    given = {"PATH": PATH, "HOME": home, **own, **image.environment, **more}
    inside = [f"{key}={value}" for key, value in given.items()]
    script = ["sh", "-c", 'cd "$0" && exec "$@"', image.folder, *command]
    subprocess.run(
        ["unshare", "--mount", "sh", "-ec", _ENTER, "enter", *inside, *script],
        env={**os.environ, "ROOT": str(image.root), "AS": f"{image.user}:{image.user}", "BINDS": " ".join(binds)},
        check=True,
    )


def check(image: Image, binds: list[str]) -> None:
    """Try what the finished container has to do."""
    run(image, [*image.entrypoint, *image.command], binds)
    run(image, ["sh", "-c", image.health], binds)
    for trial in TRIALS:
        print(f"--- as {image.user}: {shlex.join(trial)}", file=sys.stderr, flush=True)
        run(image, trial, binds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bind", action="append", default=[], help="a path of this machine that pip needs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fmask-image-") as scratch:
        root = Path(scratch) / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(asked.base), str(root)], check=True)
        image = Image(root, dict(pair.split("=", 1) for pair in asked.build_arg))
        binds = ["/etc/resolv.conf", *asked.bind]
        build(image, (HERE / "Dockerfile").read_text(), binds)
        check(image, binds)
    print("every step of the Dockerfile ran, and the container does what it has to")


if __name__ == "__main__":
    main()
