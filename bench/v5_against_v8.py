"""v5-like and v8-like data compared: the same checkpoint, the same number of images seen, the same test images.

    python bench/v5_against_v8.py WORK --archives DIR --weights yolov5n-face.pt

Builds both ensembles from the available sources, split 60 / 20 / 20; trains a model on each until it has seen `--seen`
images; evaluates and audits both on the test images of the v5-like one; compares them; and runs both on a caped, cowled
figure (`hero.py`), side by side. Writes `results/v5_against_v8.json` and `.md`, and `docs/figure-1.jpg`. Finished
stages are not repeated.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from facemask_train.core.config import config_file, read_train_settings, read_yaml
from facemask_train.core.drawing import DETECTED, GRAY, INK, font, outline
from facemask_train.core.parallel import usable_cores
from facemask_train.dataset.build import build
from facemask_train.eval.compare import compare
from facemask_train.eval.evaluate import Evaluation, evaluate
from facemask_train.eval.measures.bootstrap import Estimate
from facemask_train.eval.perturbations.controls import reencode
from facemask_train.eval.perturbations.rates import ExcessRate
from facemask_train.eval.perturbations.shortcuts import best_detection
from facemask_train.model.detector import load_detector
from facemask_train.report.markdown import table
from facemask_train.report.wording import audit_summary, format_excess, with_interval
from facemask_train.sources.fetch import fetch
from facemask_train.training.train import train

sys.path.insert(0, str(Path(__file__).parent))
from hero import draw_hero

SPLIT = {"train": 0.6, "val": 0.2, "test": 0.2}
SIDES = ("v5", "v8")
EXCESSES = {"bare faces, unseen changes": "excess", "bare faces, changes that training shows": "excess_seen"}
DOCS = Path(__file__).parents[1] / "docs"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--archives", type=Path, required=True, help="the folder with the Kaggle archives")
    parser.add_argument("--weights", type=Path, required=True, help="the initial checkpoint of both")
    parser.add_argument("--sources", nargs="+", default=["andrewmvd", "aditya276"])
    parser.add_argument("--seen", type=int, default=9000, help="how many images each model sees in training")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def write_recipe(root: Path, side: str, sources: list[str]) -> str:
    """Write the shipped recipe with another split, and without the sources that are not available."""
    name = f"bench-{side}"
    own = read_yaml(config_file(root, f"ensembles/{side}.yaml"))
    wanted = [source for source in own["sources"] if source in sources]
    recipe = {**own, "name": name, "sources": wanted, "split": SPLIT}
    path = root / "configs" / "ensembles" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return name


def train_side(given: argparse.Namespace, name: str, images: int) -> str:
    """Train until this many images have been seen, unless the run is finished."""
    epochs = max(1, round(given.seen / images))
    run = f"{name}-{given.imgsz}-{epochs}"
    if not (given.work / "runs" / run / "weights" / "best.pt").is_file():
        changes = {"weights": str(given.weights.resolve()), "epochs": epochs, "patience": epochs, "imgsz": given.imgsz}
        # for any length: a sixth of the epochs is warm-up, and the last third has no mosaic
        changes |= {"batch": given.batch, "device": given.device, "workers": 0}
        changes |= {"warmup_epochs": max(1, round(epochs / 6)), "close_mosaic": max(1, round(epochs / 3))}
        train(given.work, read_train_settings(given.work, "train", changes), data=name, name=run, tracker="none")
    return run


def draw_figure(given: argparse.Namespace, found: dict[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """Draw the figure with the detection of each model, side by side, and return the detections."""
    hero = draw_hero()
    image = reencode(hero.image)
    height, width = image.shape[:2]
    page = Image.new("RGB", (len(found) * (width + 20) + 20, height + 130), "white")
    draw, shown = ImageDraw.Draw(page), {}
    for index, (side, one) in enumerate(found.items()):
        threshold = one.metrics.operating_point.threshold
        weights = given.work / "runs" / one.metrics.run / "weights" / "best.pt"
        detector = load_detector(weights, imgsz=given.imgsz, device=given.device)
        (answers,) = detector.predict([image], confidence=0.05)
        best = best_detection(hero.face, answers)
        sure = best is not None and best.confidence > threshold
        text = "no face found" if best is None else f"{best.name} {best.confidence:.2f}"
        if best is not None and not sure:
            text = f"nothing above {threshold:.2f} ({text})"
        left = 20 + index * (width + 20)
        page.paste(Image.fromarray(image), (left, 70))
        if best is not None:
            box = tuple(value + shift for value, shift in zip(best.corners, (left, 70) * 2, strict=True))
            outline(draw, box, DETECTED, 4)  # type: ignore[arg-type]
        draw.text((left, 16), f"trained on {side}-like data: {text}", fill=INK, font=font(22, bold=True))
        assert one.metrics.audit is not None
        bare = one.metrics.audit.bare
        note = f"bare faces flipped or lost, beyond controls: {format_excess(bare)}; n = {bare.faces}"
        draw.text((left, height + 82), note, fill=GRAY, font=font(18))
        answers[side] = {"answer": None if best is None else asdict(best), "above_the_threshold": sure}
    DOCS.mkdir(exist_ok=True)
    page.resize((page.width * 2 // 3, page.height * 2 // 3), Image.Resampling.LANCZOS).save(
        DOCS / "figure-1.jpg", quality=86
    )
    return shown


def as_markdown(result: dict[str, Any]) -> str:
    """Return the table for the README."""
    header = ("trained on", "images seen", "mAP 0.5", "mAP 0.5:0.95", "recall", *(f"{name} (n)" for name in EXCESSES))
    rows = []
    for side, one in result["models"].items():
        numbers = [with_interval(Estimate(one[key], one["intervals"][key])) for key in ("map50", "map50_95", "recall")]
        bare = [ExcessRate(**one[key]["no_mask"]) for key in EXCESSES.values()]
        rates = [f"{format_excess(rate)} ({rate.faces})" for rate in bare]
        rows.append((f"{side}-like", f"{one['seen']:,}", *numbers, *rates))
    few = f"On {result['images']} test images with {result['boxes']} faces, in percent, with 95 % intervals."
    audits = [f"{side}: {one['audit']}" for side, one in result["models"].items()]
    return "\n\n".join([table(header, rows), few, result["verdict"], *audits]) + "\n"


def main() -> None:
    given = options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began, root = time.monotonic(), given.work
    fetch(root, given.sources, origin=given.archives)
    names = {side: write_recipe(root, side, given.sources) for side in SIDES}
    cards = {side: build(root, name).card for side, name in names.items()}
    images = {side: card.splits.train for side, card in cards.items()}
    trained = {side: train_side(given, names[side], images[side]) for side in SIDES}
    exam = names["v5"]
    scored = {
        side: evaluate(root, run=run, data=exam, device=given.device, tracker="none") for side, run in trained.items()
    }
    found = draw_figure(given, scored)
    compared = compare(root, [trained[side] for side in SIDES], data=exam).comparison
    models = {}
    for side, one in scored.items():
        keys = ("map50", "map50_95", "precision", "recall")
        metrics, audit = one.metrics, one.metrics.audit
        assert audit is not None
        epochs = json.loads((root / "runs" / one.metrics.run / "run.json").read_text())["settings"]["epochs"]
        models[side] = {
            **{key: getattr(metrics, key) for key in keys},
            "intervals": {key: metrics.intervals[key] for key in keys},
            "too_few": metrics.too_few,
            "train_images": images[side],
            "epochs": epochs,
            "seen": epochs * images[side],
            **{key: audit.to_json()[key] for key in ("excess", "excess_seen", "found", "response", "training_edits")},
            "audit": audit_summary(audit),
            "hero": found[side],
        }
    first = next(iter(scored.values()))
    result = {
        "command": f"python bench/v5_against_v8.py WORK --archives DIR --weights {given.weights.name} "
        f"--seen {given.seen} --imgsz {given.imgsz} --batch {given.batch}",
        "device": f"{usable_cores()} cores, {platform.machine()}, {given.device}",
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "images": first.metrics.images,
        "boxes": first.metrics.boxes,
        "models": models,
        "difference": compared.difference,
        "interval": compared.interval,
        "verdict": compared.verdict,
        "bare_difference": compared.to_json()["pairs"][0]["bare"],
    }
    here = Path(__file__).parent / "results" / Path(__file__).name
    here.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    here.with_suffix(".md").write_text(as_markdown(result))
    sys.stdout.write(as_markdown(result))


if __name__ == "__main__":
    main()
