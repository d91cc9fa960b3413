"""Figures that others published on other GPUs beside predictions: ``python -m bench.transfer [--json] [--trace]``.

Nothing is fitted to them; their errors make the band around a prediction for a GPU other than the fitted one. What the
steps do lies in ``transfer_work.json.gz``; ``--trace`` traces them anew.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.step_time import flat, read
from peft_lab.engine.request import Simulation, StepRequest, StepSetting
from peft_lab.engine.simulate import blueprint_of, simulate_blueprint
from peft_lab.engine.timing import estimate
from peft_lab.engine.timing.estimate import others
from peft_lab.engine.timing.kernels import Speed, sheet
from peft_lab.methods import get_method
from peft_lab.models.catalogue import resolve
from peft_lab.training.step import cast_added

WORK = Path(__file__).with_name("transfer_work.json.gz")


def trace_all() -> None:
    """Trace the step of every figure and write the file."""
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in others():
            model = _model(row, Path(folder))
            setting = StepSetting(row["batch"], row["seq"], optimizer=row["optimizer"], capability=(8, 9))
            values = {name: tuple(v) if isinstance(v, list) else v for name, v in row["values"].items()}
            work = _simulated(row, model, values, setting).work[-1]
            kept[row["name"]] = {"work": flat(work), "sent": _sent(row, model, values)}
            print(row["name"], file=sys.stderr, flush=True)
    WORK.write_bytes(gzip.compress(json.dumps(kept).encode(), mtime=0))


def _simulated(
    row: Mapping[str, Any], model: str, values: Mapping[str, Any], setting: StepSetting
) -> Simulation:
    """The step as these trainings ran it: adapters multiply in 16 bits too, by their own precision or by autocast."""
    asked = StepRequest(model, row["method"], values, setting, checkpointing=row["checkpointing"])
    blueprint = blueprint_of(asked)

    def applied(base: Any, depth: int) -> Any:
        adapted = blueprint.method(base, depth)  # type: ignore[operator, misc]
        cast_added(adapted, blueprint.dtype)
        return adapted

    return simulate_blueprint(replace(blueprint, method=applied, source=""), setting, model, row["method"])


def _model(row: Mapping[str, Any], folder: Path) -> str:
    """A model of the catalogue, or one of other sizes in a folder."""
    if not row["config"]:
        return str(row["model"])
    place = folder / row["name"].replace(" ", "-").replace(",", "")
    place.mkdir()
    config = {**resolve(row["model"]).config, **row["config"]}
    (place / "config.json").write_text(json.dumps(config), "utf-8")
    return str(place)


def _sent(row: Mapping[str, Any], model: str, values: Mapping[str, Any]) -> float:
    """Bytes that a device sends in a step: what is trained, summed over devices (twice the share of the others); and
    where weights are split, those of the layers gathered forward and backward."""
    shape, spec = resolve(model).shape, get_method(row["method"])
    others_share = (row["devices"] - 1) / row["devices"]
    sent = 2 * others_share * 2 * spec.formula(shape, spec.require(shape, values)).trainable
    if row["sharding"] == "fsdp2":
        bits = 4.5 if row["method"] == "qlora" else 16
        sent += 2 * others_share * shape.total * bits / 8
    return float(sent)


def predicted(found: Speed | None = None) -> Iterator[dict[str, Any]]:
    """Each figure with its prediction at these constants (those that ship)."""
    kept = json.loads(gzip.decompress(WORK.read_bytes()))
    for row in others():
        speed = estimate.carried(found or estimate.constants(), sheet(row["gpu"]))
        link = row["link"] if row["devices"] > 1 else ""
        traced = kept[row["name"]]
        step = estimate.with_speed(read(traced["work"]), speed, (1.0, 1.0), link, traced["sent"])
        yield {
            "name": row["name"],
            "gpu": row["gpu"],
            "measured_seconds": row["seconds"],
            "predicted_seconds": step.value * row["steps"],
            "bottleneck": step.bottleneck,
            "source": row["address"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--trace", action="store_true", help="trace the steps anew")
    options = parser.parse_args()
    if options.trace:
        trace_all()
    rows = list(predicted())
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        off = 100 * (row["predicted_seconds"] / row["measured_seconds"] - 1)
        times = f"{row['measured_seconds']:>8.2f}{row['predicted_seconds']:>8.2f} s"
        print(f"{row['name']:<42}{times}{off:>+8.1f}%  {row['bottleneck']}")


if __name__ == "__main__":
    main()
