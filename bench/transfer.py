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
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bench.fitting import flat, read
from peft_lab.advise.plans.steps import split_seconds
from peft_lab.engine.devices import get_device
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import work_of
from peft_lab.engine.timing import estimate
from peft_lab.engine.timing.estimate import others
from peft_lab.engine.timing.kernels import Speed, sheet
from peft_lab.models.catalogue import resolve

WORK = Path(__file__).with_name("transfer_work.json.gz")


#: Adapters multiplied in 16 bits in all of these trainings, by their own precision or by autocast.
ADAPTERS = "bfloat16"


def trace_all() -> None:
    """Trace the step of every figure, as the product does, and write the file."""
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in others():
            asked = request(row, _model(row, Path(folder)))
            found = {"work": flat(work_of(asked)), "sent": 0.0}
            if row["devices"] > 1:
                found["sent"] = simulate_sharded(asked, _how(row)).sent_bytes
            kept[row["name"]] = found
            print(row["name"], file=sys.stderr, flush=True)
    WORK.write_bytes(gzip.compress(json.dumps(kept).encode(), mtime=0))


def request(row: Mapping[str, Any], model: str) -> StepRequest:
    """The step as these trainings ran it, as it is asked of the product."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in row["values"].items()}
    setting = StepSetting(row["batch"], row["seq"], optimizer=row["optimizer"], adapter_dtype=ADAPTERS)
    step = StepRequest(model, row["method"], values, setting, checkpointing=row["checkpointing"])
    return step.on(get_device(row["gpu"]))


def _how(row: Mapping[str, Any]) -> Sharding:
    return Sharding(row["sharding"], row["devices"])


def _model(row: Mapping[str, Any], folder: Path) -> str:
    """A model of the catalogue, or one of other sizes in a folder."""
    if not row["config"]:
        return str(row["model"])
    place = folder / row["name"].replace(" ", "-").replace(",", "")
    place.mkdir()
    config = {**resolve(row["model"]).config, **row["config"]}
    (place / "config.json").write_text(json.dumps(config), "utf-8")
    return str(place)


def predicted(found: Speed | None = None) -> Iterator[dict[str, Any]]:
    """Each figure with the product's prediction at these constants (those that ship)."""
    kept = json.loads(gzip.decompress(WORK.read_bytes()))
    for row in others():
        speed = None if found is None else estimate.carried(found, sheet(row["gpu"]))
        traced = kept[row["name"]]
        work = read(traced["work"])
        if row["devices"] == 1:
            step = estimate.seconds(work, row["gpu"], speed=speed)
        else:
            split = SimpleNamespace(work=(), sharding=_how(row), sent_bytes=traced["sent"], copied_bytes=0.0)
            step = split_seconds(work, cast(Any, split), row["gpu"], row["link"], speed)
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
