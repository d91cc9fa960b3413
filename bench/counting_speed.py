"""Seconds to count a method on models of any size, without their weights, in the process that answers the app's pages.

    python -m bench.counting_speed [--repeats 5]

Each answer is new (the kept ones are dropped first). The aim: 0.3 s for 70 billion parameters.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from peft_lab.core.inspector import Inspector
from peft_lab.methods.counting.count import count

MODELS = ("minilm-l6", "smollm2-135m", "gpt2", "llama-3.2-3b", "llama-3.1-8b", "llama-3.1-70b")
METHODS = ("lora", "qlora", "ia3")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    inspector = Inspector()
    inspector.ask(count, "gpt2", "lora", {})
    print(
        json.dumps({f"{m} {s}": _median(inspector, m, s, repeats) for m in MODELS for s in METHODS}, indent=2)
    )
    inspector.close()


def _median(inspector: Inspector, model: str, method: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        inspector.forget()
        start = time.perf_counter()
        inspector.ask(count, model, method, {})
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
