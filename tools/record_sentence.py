"""Record the run that Home shows: LoRA with its default settings, :data:`STEPS` steps of :data:`ROWS` rows, followed on
one order it never trains on.

    python -m tools.record_sentence [--out FILE]

After every step it notes how far each block moved and how surprising every token of the right answer is; at
:data:`~peft_lab.drawing.trajectory.sentence.ASKED` also what the model answers, and the likeliest tokens at each place.
Nothing of this changes the training: it makes the steps of any other run of these settings.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core import machine
from peft_lab.drawing.trajectory.recorder import compact_trajectory, evaluating
from peft_lab.drawing.trajectory.sentence import (
    ASKED,
    FILE_BYTES,
    LIKELIEST,
    METHOD,
    MODEL,
    ROWS,
    SHIPPED,
    STEPS,
    TASK,
)
from peft_lab.methods import recording
from peft_lab.methods.recording.recorder import Watched
from peft_lab.runs import course
from peft_lab.runs.record import versions
from peft_lab.runs.spec import RunRequest
from peft_lab.training import batches
from peft_lab.training.evaluation import question
from peft_lab.training.step import Masters

if TYPE_CHECKING:
    import torch


def short(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


class SentenceRecorder:
    """Notes the states of one training, on its first held-out row."""

    def __init__(self, ready: course.Prepared) -> None:
        self.ready, self.row = ready, ready.test[0]
        self.examines, self.tokenizer = course.examiner(ready), ready.base.tokenizer
        (encoded,) = batches.encode(ready.task, [self.row], self.tokenizer, ready.spec.max_length)
        self.ids, self.prompt = list(encoded.ids), encoded.prompt
        end = len(self.ids) - (self.ids[-1] == self.tokenizer.eos_token_id)
        self.right = self.ids[self.prompt : end]
        own = recording.start(ready.method, ready.model, ready.base.entry.shape, ready.spec.values)
        self.parts: dict[str, list[Watched]] = {
            slot: [part for part in own.parts if part.slot == slot] for slot in ("q", "v")
        }
        self.words: dict[int, int] = {}
        self.moved: dict[str, list[list[float]]] = {slot: [] for slot in self.parts}
        self.surprise: list[list[float]] = []
        self.first: list[list[int]] = []
        self.answers: list[dict[str, Any]] = []

    def text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    def word(self, token: int) -> int:
        return self.words.setdefault(token, len(self.words))

    def state(self, step: int) -> None:
        """Note the model after ``step`` updates."""
        with evaluating(self.ready.model):
            for slot, parts in self.parts.items():
                self.moved[slot].append([short(part.change() or 0.0) for part in parts])
            likely = self._likely()
            self.surprise.append(
                [short(-float(row[token]) + 0.0) for row, token in zip(likely, self.right, strict=True)]
            )
            self.first.append([self.word(token) for token in likely.argmax(-1).tolist()])
            if step in ASKED:
                self.answers.append(self._answer(step, likely))

    def _likely(self) -> torch.Tensor:
        """Return the logarithm of each token's probability at each place of the right answer: (places, vocabulary)."""
        import torch

        read = torch.tensor([self.ids], device=self.ready.base.device)
        logits = self.ready.model(input_ids=read, attention_mask=torch.ones_like(read)).logits[0]
        places = slice(self.prompt - 1, self.prompt - 1 + len(self.right))
        return logits[places].float().log_softmax(-1)

    def _answer(self, step: int, likely: torch.Tensor) -> dict[str, Any]:
        text = self.examines.answer(self.ready.model, [question(self.row)])[0].answer
        top = likely.exp().topk(LIKELIEST, -1)
        likeliest = [
            [[self.word(token), short(share)] for token, share in zip(tokens, shares, strict=True)]
            for tokens, shares in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        return {"step": step, "text": text, "likeliest": likeliest}

    def order(self) -> list[str]:
        """Return the tokens of what the learner writes, without the chat template around it."""
        ids = self.tokenizer(self.row.text, add_special_tokens=False)["input_ids"]
        return [self.text(token) for token in ids]


def record(out: Path) -> int:
    """Train, and write the record. Returns its bytes."""
    ready = course.prepare(RunRequest(MODEL, METHOD, TASK, steps=STEPS, batch=ROWS).complete())
    recorder, masters = SentenceRecorder(ready), Masters(ready.model)
    began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    recorder.state(0)
    losses, seconds = [], 0.0
    for made in course.steps(ready, masters, course.optimizer_of(ready, masters)):
        losses.append(short(made.loss, 5))
        seconds += made.seconds
        recorder.state(made.step + 1)
        print(f"step {made.step + 1}: {made.loss:.3f}", file=sys.stderr, flush=True)
    trained = sum(p.numel() for p in ready.model.parameters() if p.requires_grad)
    data = {
        "format": 1,
        "recorded": began,
        "spec": ready.spec.to_dict(),
        "machine": {"processor": machine.processor(), "cores": machine.cores(), "device": ready.base.device},
        "versions": versions(),
        "trained": trained,
        "total": ready.base.entry.shape.total,
        "seconds": round(seconds, 1),
        "order": recorder.row.text,
        "order_tokens": recorder.order(),
        "right": recorder.row.target,
        "right_tokens": [recorder.text(token) for token in recorder.right],
        "words": [recorder.text(token) for token in recorder.words],
        "loss": losses,
        "moved": recorder.moved,
        "surprise": recorder.surprise,
        "first": recorder.first,
        "answers": recorder.answers,
    }
    text = compact_trajectory(data) + "\n"
    if len(text.encode()) > FILE_BYTES:
        raise SystemExit(f"The record has {len(text.encode()):,} bytes, more than {FILE_BYTES:,}.")
    out.write_text(text, "utf-8")
    return len(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the file to write")
    size = record(parser.parse_args().out)
    print(f"{size:,} bytes, {STEPS} steps", file=sys.stderr)


if __name__ == "__main__":
    main()
