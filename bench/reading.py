"""How well free answers are read: answers that were not developed on, against what a person reads in them.

    python -m bench.reading [--set fresh] [--list] [--write]
    python -m bench.reading --fit

480 answers to 60 questions were written by writers who saw only the questions; a hash of the answer halves them.
``developed.jsonl`` (of tests/quiz/answers) was looked at while the patterns were written. ``kept.jsonl`` was opened
once, for the first measurement, and again for the second: it is no longer unseen. ``fresh.jsonl`` was written later,
by the question's text alone, by who then changed the reading, and opened once. All are labelled point by point, the
latter two before the reader saw them: ``m`` made, ``p`` partly, ``n`` not made, ``c`` contradicted. Only ``m`` counts
for "made", only ``c`` for "contradicted".

``--fit`` weighs the signs of a finding on the developed half and keeps the lowest limit whose findings are right in
:data:`WANTED` of cases, each question judged by weights that were fitted without it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.quiz.reading import confidence
from peft_lab.quiz.reading.confidence import Confidence, Signs
from peft_lab.quiz.reading.facets import all_facets
from peft_lab.quiz.reading.falsehoods import false_here
from peft_lab.quiz.reading.measured import FILE, Measured
from peft_lab.quiz.reading.reader import AnswerRead, read_answer, read_with

ANSWERS = Path(__file__).parents[1] / "tests" / "quiz" / "answers"
SETS = ("fresh", "kept", "developed")
SECOND = ("second_developed", "second_kept")  # no look at a pattern before they were written
KEPT = ANSWERS / "kept.jsonl"
WANTED = 0.97  # a little above the aim of .95, as other answers will be harder
PARTS, SHUFFLES = 10, 10


@dataclass
class Score:
    """Decisions by what was read and what a person reads; ``errors``: right and all errors that belong to no point."""

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[bool] = field(default_factory=Counter)

    def read(self, state: str) -> int:
        return sum(number for (read, _), number in self.pairs.items() if read == state)

    def precision(self, state: str, *golds: str) -> float:
        """The share of decisions of this kind that a person would make, too."""
        return sum(self.pairs[state, gold] for gold in golds) / max(1, self.read(state))

    def recall(self, state: str, gold: str) -> float:
        """The share of what a person decides so that the reader decides so, too."""
        return self.pairs[state, gold] / max(1, sum(n for (_, each), n in self.pairs.items() if each == gold))

    @property
    def coverage(self) -> float:
        """The share of all points of all answers that something is said about."""
        return 1 - self.read("unsure") / sum(self.pairs.values())


def rows(which: str = "fresh") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ANSWERS / f"{which}.jsonl").read_text("utf-8").splitlines()]


def measure(label: str | None = None, which: str = "fresh") -> Score:
    """Read every answer of a set (of one label), and count."""
    score = Score()
    for row in rows(which):
        if label in (None, row["label"]):
            count(score, row, read(row))
    return score


def read(row: dict[str, Any]) -> AnswerRead:
    found = read_answer(row["question"], row["answer"])
    assert found is not None, row["question"]
    return found


def count(score: Score, row: dict[str, Any], found: AnswerRead) -> None:
    for point, gold in zip(found.points, row["points"], strict=True):
        score.pairs[point.state, gold] += 1
    for each in found.errors if "errors" in row else ():
        score.errors[each.error.text in row["errors"]] += 1


def counts() -> Measured:
    """What the Practice page says about it: the fresh answers and the kept ones together."""
    score, answers = Score(), 0
    for row in [*rows("fresh"), *rows("kept")]:
        count(score, row, read(row))
        answers += 1
    points = sum(score.pairs.values())
    return Measured(
        answers=answers,
        points=points,
        decided=points - score.read("unsure"),
        made=score.read("made"),
        made_right=score.pairs["made", "m"],
        against=score.read("contradicted") + score.errors.total(),
        against_right=score.pairs["contradicted", "c"] + score.errors[True],
    )


def fitted() -> dict[str, Any]:
    """Weights and limit from the developed half, and what was right at that limit in questions left out."""
    seen: list[tuple[str, Signs, bool]] = []
    for row in rows("developed"):
        wanted = all_facets()[row["question"]]
        found = read_with(wanted, row["answer"], false_here(row["question"]), doubting=False)
        for point, gold in zip(found.points, row["points"], strict=True):
            if point.signs is not None:
                seen.append((row["question"], point.signs, gold == "m"))
    judged = [pair for shuffle in range(SHUFFLES) for pair in _left_out(seen, shuffle)]
    limit, count, right = _limit(judged)
    weights = confidence.fit([signs for _, signs, _ in seen], [good for *_, good in seen])
    names = ("constant", *Signs.__dataclass_fields__)
    return {
        "weights": {name: round(each, 3) for name, each in zip(names, weights, strict=True)},
        "limit": round(limit, 3),
        "findings": len(seen),
        "above, in questions left out": round(count / SHUFFLES),
        "of them right": round(right / count, 3),
    }


def _left_out(seen: list[tuple[str, Signs, bool]], shuffle: int) -> list[tuple[float, bool]]:
    names = sorted({question for question, *_ in seen})
    random.Random(shuffle).shuffle(names)
    part = {name: number % PARTS for number, name in enumerate(names)}
    judged = []
    for number in range(PARTS):
        others = [(signs, good) for question, signs, good in seen if part[question] != number]
        weights = confidence.fit([signs for signs, _ in others], [good for _, good in others])
        found = Confidence(weights, 0.0)
        judged += [(found.of(signs), good) for question, signs, good in seen if part[question] == number]
    return judged


def _limit(judged: list[tuple[float, bool]]) -> tuple[float, int, int]:
    best, right = (1.0, 0, 0), 0
    for count, (share, good) in enumerate(sorted(judged, reverse=True), start=1):
        right += good
        if right >= WANTED * count:
            best = share, count, right
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="every decision that a person would not make")
    parser.add_argument("--write", action="store_true", help="keep the counts for the Practice page")
    parser.add_argument("--set", choices=(*SETS, *SECOND), default="fresh", help="which answers")
    parser.add_argument(
        "--fit", action="store_true", help="weigh the signs of a finding, and keep the weights"
    )
    asked = parser.parse_args()
    if asked.fit:
        confidence.FILE.write_text(json.dumps(fitted(), indent=1) + "\n", "utf-8")
        print(confidence.FILE.read_text("utf-8"))
        return
    which = asked.set
    labels = list(dict.fromkeys(row["label"] for row in rows(which)))
    scores = [("all", measure(None, which)), *((label, measure(label, which)) for label in labels)]
    for name, score in scores:
        print(
            f"{name:18} points {sum(score.pairs.values()):4d}  coverage {score.coverage:.2f}  "
            f"made {score.read('made'):3d} precision {score.precision('made', 'm'):.3f} "
            f"recall {score.recall('made', 'm'):.2f}  "
            f"contradicted {score.read('contradicted'):2d} precision {score.precision('contradicted', 'c'):.3f} "
            f"recall {score.recall('contradicted', 'c'):.2f}  "
            f"missing {score.read('missing'):3d} precision {score.precision('missing', 'n', 'c'):.3f}  "
            f"other errors {score.errors[True]} of {score.errors.total()}"
        )
    if asked.write:
        FILE.write_text(json.dumps(asdict(counts()), indent=1) + "\n", "utf-8")
    if asked.list:
        for row in rows(which):
            _list(row)


def _list(row: dict[str, Any]) -> None:
    right = {"made": "m", "contradicted": "c"}
    for point, gold in zip(read(row).points, row["points"], strict=True):
        if gold != right.get(point.state, gold):
            words = " / ".join(row["answer"][first:last] for first, last in point.spans)
            print(f"{row['question']}: read {point.state}, is {gold}: {point.point.text[:60]} <- {words}")


if __name__ == "__main__":
    main()
