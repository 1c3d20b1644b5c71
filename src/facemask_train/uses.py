"""The commands that use a model: demo. Each prints what one function gave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train.options import DEFAULT_ROOT, Debug, Device, Json, Quiet, Root
from facemask_train.terminal import terminal

if TYPE_CHECKING:
    from facemask_train.use.demo import Site


def demo(
    run: Annotated[str | None, typer.Option(help="A run's name; without it the one finished last.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Any checkpoint, instead of a run's best.")] = None,
    imgsz: Annotated[int | None, typer.Option(min=32, help="Picture size in pixels; the run's where left out.")] = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Where the threshold starts; without it what `evaluate` chose."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to bind; 0.0.0.0 opens the page to other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a file.")] = 10,
    max_pixels: Annotated[int, typer.Option(min=1, help="Megapixels of a picture.")] = 40,
    max_seconds: Annotated[int, typer.Option(min=1, help="Seconds of a video that are looked at.")] = 60,
    device: Device = None,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve a page that counts masks in a picture, webcam or video, until Ctrl-C."""
    with terminal(as_json=as_json, quiet=quiet, debug=debug) as term:
        from facemask_train.use import demo as stage
        from facemask_train.use.uploads import Limits

        stage.serve(
            root,
            run=run,
            weights=weights,
            imgsz=imgsz,
            confidence=confidence,
            device=device or "",
            host=host,
            port=port,
            limits=Limits(max_mb, max_pixels, max_seconds),
            told=lambda site: term.result(_demo_json(site), *_demo_lines(site)),
        )


# ---- from results to JSON (an interface) and to lines ----


def _demo_json(site: Site) -> dict[str, Any]:
    keys = ("url", "host", "port", "model", "confidence", "imgsz")
    return {key: getattr(site, key) for key in keys} | {"weights": str(site.weights)}


def _demo_lines(site: Site) -> list[str]:
    return [
        f"{site.model}, {site.imgsz} px, threshold {site.confidence:.2f} to start with",
        f"open {site.url}   (Ctrl-C ends it)",
    ]
