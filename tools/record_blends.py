"""Record blends of the three shipped adapters, in the order of :func:`grid`.

    OMP_NUM_THREADS=2 python -m tools.record_blends [--most BLENDS] [--out FILE]
    python -m tools.record_blends --again                          # the best ones on rows that had no part in choosing
    python -m tools.record_blends --rows FILE json style           # training rows of both tasks, as a file to train on
    python -m tools.record_blends --keep orders FOLDER             # stores a run's adapter in 16 bits

Each blend is appended to the file when it is scored; stopped and given again, the tool records those that are missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

from peft_lab.core import machine
from peft_lab.runs.record import versions
from peft_lab.studies import blending
from peft_lab.studies.blending import (
    DENSITY,
    HOW,
    MEANS,
    SCORED,
    SEED,
    SHIPPED,
    TASKS,
    Bench,
    shipped_part,
)
from peft_lab.takeaway.ship.adapter import CONFIG, WEIGHTS
from peft_lab.training.evaluation import one_product
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.base import Row
from peft_lab.training.tasks.made import OPENINGS, has_opening
from peft_lab.training.tasks.orders import first_object, read_fields
from tools.record_playground import known

PLACES = 4
LEVELS = (0.0, *blending.LEVELS)
AGAIN = 20  # further held-out rows, which had no part in a choice; the ship's log has no more


def grid() -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the blends in the order of recording: base and adapters alone; of pairs, then of all, every weight in the
    exact sum, then every way at the weights that were best in it, and means of whole adapters.
    """
    points = list(product(LEVELS, repeat=len(TASKS)))
    yield from (("cat", point) for point in points if sum(point) == sum(map(bool, point)) < 2)
    groups = blending.best()
    for size in range(2, len(TASKS) + 1):
        for members in combinations(range(len(TASKS)), size):
            mine = [
                point for point in points if {at for at, weight in enumerate(point) if weight} == {*members}
            ]
            yield from (("cat", point) for point in mine)
            for cell in groups.get(members, []):
                if cell["how"] == "cat":
                    best, whole = tuple(cell["weights"]), max(mine)
                    others = [how for how in HOW if how != "cat"]
                    yield from ((how, best) for how in others)
                    yield from ((how, whole) for how in others if how in MEANS and whole != best)


def settled(number: int, answer: str, row: Row) -> bool:
    """Return whether no further token can change the answer's score in the task of this adapter."""
    match [*TASKS][number]:
        case "orders":
            return first_object(answer) is not None
        case "style":
            return len(answer.lstrip()) >= max(map(len, OPENINGS)) and not has_opening(answer)
        case _:
            wanted = (read_fields(row.target) or {}).items()
            return any(
                (part.partition("=")[0].strip(), part.partition("=")[2].strip()) not in wanted
                for part in answer.split(";")[:-1]
            )


def write(
    model: Any, inputs: Mapping[str, Any], new: int, ends: Callable[[int, list[int]], bool]
) -> list[list[int]]:
    """Write greedily as :meth:`Examiner.write` does, but drop the rows that have ended, so that they cost no more.

    Args:
        ends: whether a row, by its number, has ended with these tokens.
    """
    import torch
    from transformers import DynamicCache

    mask, cache = inputs["attention_mask"], DynamicCache()
    ids, places = inputs["input_ids"], (mask.cumsum(-1) - 1).clamp(min=0)
    rows = list(range(len(ids)))
    written: list[list[int]] = [[] for _ in rows]
    for _ in range(new):
        with torch.no_grad(), one_product(model):
            made = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                logits_to_keep=1,
            )
        chosen = made.logits[:, -1].argmax(-1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            written[row].append(token)
        going = [at for at, row in enumerate(rows) if not ends(row, written[row])]
        if not going:
            break
        if len(going) < len(rows):
            cache.batch_select_indices(torch.tensor(going))
        rows = [rows[at] for at in going]
        ids, places = chosen[going, None], places[going, -1:] + 1
        mask = torch.cat([mask[going], mask.new_ones(len(going), 1)], 1)
    return written


def scores(bench: Bench, numbers: Sequence[int], first: int, count: int) -> list[float]:
    """Return what is active scores on held-out rows of these adapters' tasks, as :meth:`Bench.scores` does."""
    tasks = [bench.parts[number].task for number in numbers]
    rows = [(number, row) for number, task in zip(numbers, tasks, strict=True)
            for row in task.load().test[first : first + count]]  # fmt: skip
    examiner = bench.examiners[0]
    prompts = examiner.prepare([row.text for _, row in rows])

    def text(tokens: list[int]) -> str:
        return str(examiner.tokenizer.decode(tokens, skip_special_tokens=True))

    def ends(at: int, tokens: list[int]) -> bool:
        number, row = rows[at]
        longest = bench.parts[number].task.max_new_tokens
        return tokens[-1] == examiner.ends or len(tokens) == longest or settled(number, text(tokens), row)

    answers = [*map(text, write(bench.model, prompts, max(task.max_new_tokens for task in tasks), ends))]
    return [
        task.score(answers[at : at + count], [row for _, row in rows[at : at + count]])[task.metric]
        for at, task in zip(range(0, len(rows), count), tasks, strict=True)
    ]


def common(bench: Bench) -> dict[str, Any]:
    """Return what all blends share."""
    return {
        "rows": SCORED,
        "density": DENSITY,
        "seed": SEED,
        "machine": {"processor": machine.processor(), "cores": machine.cores()},
        "versions": versions(),
        "overlap": {side: drawn(bench.overlaps(), side) for side in ("A", "B")},
        "chance": {side: chance(bench, at) for side, at in (("A", 1), ("B", 0))},
        "again": AGAIN,
    }


def drawn(rows: list[dict[str, Any]], side: str) -> dict[str, list[float]]:
    """Return the overlaps by pair and map, each from the first block to the last."""
    lines: dict[str, list[float]] = {}
    for row in rows:
        name = f"{' and '.join(row['pair'])}, {row['module'].rpartition('.')[2][0]}"
        lines.setdefault(name, []).append(round(row[side], PLACES))
    return lines


def chance(bench: Bench, at: int) -> dict[str, float]:
    """Return the mean overlap of random subspaces, by map. ``at``: 1 for what is read, 0 for what is written."""
    return {
        path.rpartition(".")[2][0]: round(layer.r["0"] / layer.get_base_layer().weight.shape[at], PLACES)
        for path, layer in bench.layers().items()
    }


def record(bench: Bench, how: str, weights: tuple[float, ...]) -> dict[str, Any]:
    """Score one blend on all tasks; with weights of 0 the base."""
    began = time.perf_counter()
    rank = 0
    if any(weights):
        rank = bench.blend(how, weights)
    else:
        bench.model.disable_adapter_layers()
    found = scores(bench, range(len(TASKS)), 0, SCORED)
    if not any(weights):
        bench.model.enable_adapter_layers()
    return {
        "how": how,
        "weights": weights,
        "rank": rank,
        "scores": [round(score, PLACES) for score in found],
        "seconds": round(time.perf_counter() - began, 1),
        "recorded": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }


def confirm(bench: Bench, out: Path) -> None:
    """Score the best blend of each group, and its adapters alone, on rows that had no part in choosing it."""
    lines = known(out)
    best = {members: cells[0] for members, cells in blending.best().items() if blending.worth(cells[0])[0]}
    chosen = [(cell["how"], cell["weights"]) for cell in best.values()]
    chosen += [("cat", [float(at == number) for at in range(len(TASKS))]) for number in {*chain(*best)}]
    for line in lines:
        if "again" not in line and (line["how"], line["weights"]) in chosen:
            bench.blend(line["how"], line["weights"])
            members = [number for number, weight in enumerate(line["weights"]) if weight]
            line["again"] = [round(score, PLACES) for score in scores(bench, members, SCORED, AGAIN)]
            print(line, file=sys.stderr, flush=True)
            out.write_text("".join(json.dumps(each) + "\n" for each in lines), "utf-8")


def add(out: Path, line: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def write_rows(out: Path, tasks: list[str]) -> None:
    """Write training rows of tasks as JSON Lines, equally many of each."""
    trains = [get_task(name).load().train for name in tasks]
    for rows in zip(*trains, strict=False):
        for row in rows:
            add(out, {"prompt": row.text, "completion": row.target})


def keep(name: str, folder: Path) -> None:
    """Store a run's adapter beside the others, in 16 bits."""
    from safetensors.torch import load_file, save_file

    place = SHIPPED / name
    place.mkdir(parents=True, exist_ok=True)
    halved = {key: tensor.half() for key, tensor in load_file(folder / WEIGHTS).items()}
    save_file(halved, place / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(folder / CONFIG, place / CONFIG)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=SHIPPED / "blends.jsonl", help="the file to add to")
    parser.add_argument("--most", type=int, help="blends to record now; all that are missing without it")
    parser.add_argument("--part", default="1/1", help="of the missing blends, such as 2/2 beside 1/2")
    parser.add_argument("--again", action="store_true", help="score the best blends on further rows")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="a file, then tasks")
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "FOLDER"))
    options = parser.parse_args()
    if options.keep:
        keep(options.keep[0], Path(options.keep[1]))
        return
    if options.rows:
        out, *tasks = options.rows
        write_rows(Path(out), tasks)
        return
    bench = Bench([shipped_part(name) for name in TASKS])
    about = SHIPPED / "about.json"
    if not about.is_file():
        about.write_text(json.dumps(common(bench)) + "\n", "utf-8")
    if options.again:
        confirm(bench, options.out)
        return
    done = {(line["how"], tuple(line["weights"])) for line in known(options.out)}
    first, of = map(int, options.part.split("/"))
    missing = [each for each in grid() if each not in done][first - 1 :: of]
    for how, weights in missing[: options.most]:
        line = record(bench, how, weights)
        add(options.out, line)
        print(how, weights, line["scores"], f"{line['seconds']} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
