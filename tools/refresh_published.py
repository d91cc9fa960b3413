"""Renew the published rows from a checkout of PEFT: ``python -m tools.refresh_published CHECKOUT``.

Reads ``method_comparison/*/results/*.json`` and the experiments' own adapter configs, writes the rows that ship with
the app, and prints what changed. A row that was run anew, or stands there twice, keeps its other run among the re-runs,
which say how far one run can be trusted. Afterwards ``python -m tools.simulate_published`` simulates the new rows.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_lab.engine.published import BENCHMARKS, METAMATH, RERUNS, Benchmark

SHIPPED = Path(__file__).parents[1] / "peft_lab/engine/published"
#: Of the training settings, those that a row keeps beside the learning rate.
SETTINGS = (
    "compile", "use_gc", "optimizer_kwargs", "lr_scheduler", "use_amp", "autocast_adapter_dtype", "attn_implementation",
    "init_kv_cache_prefix",
)  # fmt: skip
#: Of a figure that is another one by rounding only, nothing is said.
CLOSE = 1e-9
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None, shipped: Path = SHIPPED) -> int:
    """Write the rows of a checkout; 1 where it holds none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="a checkout of huggingface/peft")
    root = parser.parse_args(arguments).checkout / "method_comparison"
    found = {
        name: sorted(results(root / each.folder), key=lambda row: row["created_at"])
        for name, each in BENCHMARKS.items()
    }
    for name, benchmark in BENCHMARKS.items():
        if not found[name]:
            print(
                f"No results in {root / benchmark.folder / 'results'}: is this a checkout of PEFT?",
                file=sys.stderr,
            )
            return 1
    again = _lines(shipped / RERUNS)
    for name, benchmark in BENCHMARKS.items():
        runs = found[name]
        newest = {row["experiment"]: row for row in runs}
        before = {row["experiment"]: row for row in _lines(shipped / benchmark.file)}
        others = [row for row in runs if row is not newest[row["experiment"]]]
        others += [row for row in before.values() if _run_anew(row, newest)]
        for row in others:
            _keep(again, benchmark, row, _commit(root) if row in runs else None)
        now = {
            name: newest[name] for name in sorted(newest, key=lambda name: f"{name.replace('/', '--')}.json")
        }
        for row in now.values():
            del row["created_at"]
        print(f"{benchmark.folder}: {len(before)} rows before, {len(now)} now")
        print("".join(f"  {told}\n" for told in changes(before, now)), end="")
        _write(shipped / benchmark.file, list(now.values()))
    _write(shipped / RERUNS, again)
    return 0


def results(folder: Path) -> Iterator[Row]:
    """The finished runs of one benchmark's folder, as rows with ``created_at`` beside."""
    for file in sorted((folder / "results").glob("*.json")):
        found = json.loads(file.read_text("utf-8"))
        if found["train_info"]["status"] == "success":
            yield _row(folder, found)


def _row(folder: Path, found: Mapping[str, Any]) -> Row:
    run, train, packages = found["run_info"], found["train_info"], found["meta_info"]["package_info"]
    config, name = run["train_config"], run["experiment_name"]
    *steps, last = train["metrics"]
    test, valid = ("test accuracy", "valid accuracy")
    if test not in last:
        test, valid = ("test dino_similarity", "valid dino_similarity")
    stepping = [round(each["train time"], 3) for each in steps]
    speeds = [each["tokens / sec"] for each in steps if "tokens / sec" in each]
    return {
        "experiment": name,
        "created": run["created_at"][:10],
        "created_at": run["created_at"],
        "peft_type": (run["peft_config"] or {}).get("peft_type"),
        **{f"{each}_version": packages[f"{each}-version"] for each in ("peft", "torch", "transformers")},
        "trainable": train["num_trainable_params"],
        "total": train["num_total_params"],
        "adapter_file_bytes": train["file_size"],
        "peak_reserved_bytes": train["accelerator_memory_max"],
        "mean_reserved_bytes": train["accelerator_memory_reserved_avg"],
        "learning_rate": config["optimizer_kwargs"]["lr"],
        "weight_decay": config["optimizer_kwargs"].get("weight_decay"),
        "optimizer": config["optimizer_type"],
        "scheduler": config["lr_scheduler"],
        "max_steps": config["max_steps"],
        "batch": config["batch_size"],
        "headline_seconds": round(train["train_time"], 1),
        "stepping_seconds": round(sum(each["train time"] for each in steps), 2),
        "stepping_seconds_by_interval": stepping,
        "eval_seconds_by_interval": [round(each["eval time"], 2) for each in steps],
        "tokens_per_second": round(statistics.median(speeds), 1) if speeds else None,
        "tokens": last.get("train total tokens"),
        "valid_best": max(each[valid] for each in steps),
        "test": last[test],
        "forgetting": _number(last.get("forgetting")),
        "drift": _number(last.get("drift")),
        "status": train["status"],
        "other_training_params": {key: config[key] for key in SETTINGS if key in config},
        "adapter_config": _config(folder / "experiments" / name, run["peft_config"]),
    }


def _config(folder: Path, ran: Row | None) -> Row | None:
    """The experiment's own config, which says what was chosen and leaves the rest to PEFT; where the experiment is
    gone, what PEFT made of it."""
    file = folder / "adapter_config.json"
    own: Row = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return (own or ran) if ran is not None else None


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _run_anew(before: Row, newest: Mapping[str, Row]) -> bool:
    now = newest.get(before["experiment"], before)
    return bool((before["created"], before["test"]) != (now["created"], now["test"]))


def _keep(again: list[Row], benchmark: Benchmark, row: Row, commit: str | None) -> None:
    """Note another run of an experiment, once. Results of two days can be equal; the day tells them apart."""
    kept = {
        "benchmark": benchmark.name,
        "experiment": row["experiment"],
        "created": row["created"],
        "commit": commit,
        **{f"{each}_version": row[f"{each}_version"] for each in ("peft", "torch", "transformers")},
        "test": row["test"],
        "forgetting": row["forgetting"] if benchmark.name == METAMATH else row["drift"],
    }
    same = ("experiment", "peft_version", "test")
    if not any(all(each[key] == kept[key] for key in same) for each in again):
        again.append(kept)


def _commit(root: Path) -> str | None:
    found = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def changes(before: Mapping[str, Row], now: Mapping[str, Row]) -> Iterator[str]:
    """What is new, gone and different, a line each."""
    yield from (f"new: {name}, test {now[name]['test']:.3f}" for name in now if name not in before)
    yield from (f"gone: {name}" for name in before if name not in now)
    for name in (name for name in now if name in before):
        told = [
            f"{key} {_shown(before[name].get(key))} → {_shown(value)}"
            for key, value in now[name].items()
            if not _same(before[name].get(key), value)
        ]
        if told:
            yield f"changed: {name}: {', '.join(told)}"


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=CLOSE)
    return bool(before == now)


def _shown(value: Any) -> str:
    """A figure as it is, a list by its length, a config in a word."""
    if isinstance(value, list):
        return f"[{len(value)}]"
    return "{…}" if isinstance(value, dict) else str(value)


def _lines(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []


def _write(file: Path, rows: Sequence[Row]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    file.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
