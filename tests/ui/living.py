"""A trajectory of round numbers for the tests of what plays it."""

from __future__ import annotations

from typing import Any

from peft_lab.drawing.trajectory.format import Trajectory, from_dict
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape

MODEL = "minilm-l6"
STEPS = [0, 1, 2, 4, 8]
RANK = 8


def shape() -> ModelShape:
    return get_model(MODEL).shape


def trajectory(ended: bool = True, slug: str = "lora") -> Trajectory:
    """Query and value of six layers; the last layer moves furthest, and no gradient passes below the first. One that
    has not ended is to have 12 steps."""
    states = range(len(STEPS))
    parts = [
        _part(layer, slot, name) for layer in range(6) for slot, name in (("q", "query"), ("v", "value"))
    ]
    whole = shape()
    model = {
        "name": MODEL, "title": whole.title, "kind": whole.kind, "layers": 6, "hidden": 384, "intermediate": 1536,
        "heads": 12, "kv_heads": 12, "head_dim": 32, "vocab": 30522, "total": 22713216, "trainable": 73728,
        "head": 770, "dtype": "float32",
    }  # fmt: skip
    return from_dict(
        {
            "format": 1, "method": slug, "run": "made-up", "recorded": "2026-11-26T12:00:00+00:00", "ended": ended,
            "spec": {"steps": 8 if ended else 12, "values": get_method(slug).complete(whole, {})},
            "machine": {"processor": "a test", "device": "cpu"}, "versions": {}, "model": model,
            "example": {
                "text": "It was fine.", "tokens": ["it", "was", "fine", "."], "expected": "positive",
                "metric": "accuracy",
            },
            "steps": STEPS,
            "curve": {"loss": [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], "rate": [], "gradient": []},
            "parts": parts,
            "stream": {
                "moved": [[0.0] + [0.01 * state] * 6 for state in states],
                "gradient": [[None, *[0.1 * (layer + 1) for layer in range(6)]] for _ in states],
            },
            "attention": None,
            "answers": [
                {"step": 0, "text": "negative", "score": 0.0}, {"step": 4, "text": "positive", "score": 1.0},
            ],
            "notes": {
                "merge": [{"dtype": "float32", "max_difference": 1.2e-7, "max_logit": 0.5}],
            },
            "seconds": 1.0, "training_seconds": 2.0,
        }
    )  # fmt: skip


def _part(layer: int, slot: str, name: str) -> dict[str, Any]:
    moved = [0.01 * (layer + 1) * state for state in range(len(STEPS))]
    return {
        "path": f"bert.encoder.layer.{layer}.attention.self.{name}", "layer": layer, "slot": slot, "kind": "low_rank",
        "shape": [384, 384], "parameters": 6144, "rank": RANK, "share": moved, "change": moved,
        "gradient": [0.5, 0.4, None, 0.2, None], "spectrum": [[state / 10] * RANK for state in range(len(STEPS))],
        "tensors": {},
    }  # fmt: skip
