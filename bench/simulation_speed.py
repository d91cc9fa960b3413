"""Seconds to simulate a training step, in the processes that answer the Memory page, once they are warm.

    python -m bench.simulation_speed [--repeats 5]

Every question is a new one (another length), so nothing is answered from what was said before. ``processor`` is what
the process used; ``wall`` is what a visitor waits, longer on a busy machine. The aims: 1 s for Llama 3.2 3B, 2 s for
Llama 3.1 70B with QLoRA and checkpointing, 1 s for a page's bars, which are all methods on one model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import wait

import psutil

from peft_lab.core.inspector import Inspector, get_pool
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import memory_of
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model

CASES = (
    ("llama-3.2-3b", "lora", 4, 768, False),
    ("llama-3.2-3b", "full", 4, 768, False),
    ("llama-3.2-3b", "qlora", 4, 768, False),
    ("llama-3.2-3b", "prefix", 4, 768, False),
    ("llama-3.1-70b", "qlora", 1, 1024, True),
)
BARS = ("llama-3.2-3b", 4, 768)
_APART = 8  # tokens between one repetition and the next


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    inspector = Inspector()
    inspector.ask(memory_of, StepRequest("smollm2-135m", "lora", {}, StepSetting(2, 32)))
    print(f"{'case':<44}{'processor':>12}{'wall':>9}")
    for model, method, batch, seq, checkpointing in CASES:
        used, waited = [], []
        for number in range(repeats):
            setting = StepSetting(batch, seq - _APART * number)
            asked = StepRequest(model, method, {}, setting, checkpointing=checkpointing)
            before, start = _processor(), time.perf_counter()
            inspector.ask(memory_of, asked)
            waited.append(time.perf_counter() - start)
            used.append(_processor() - before)
        name = f"{model}, {method}{', checkpointing' if checkpointing else ''}"
        print(f"{name:<44}{statistics.median(used):>10.2f} s{statistics.median(waited):>7.2f} s", flush=True)
    inspector.close()
    times = list(_bars(repeats))
    print(f"{f'{BARS[0]}, all methods at once':<44}{'':>12}{statistics.median(times):>7.2f} s")


def _bars(repeats: int) -> Iterator[float]:
    model, batch, seq = BARS
    shape = get_model(model).shape
    slugs = [
        slug
        for slug, method in all_methods().items()
        if not any(problem.level == "error" for problem in method.problems(shape, {}))
    ]
    for number in range(repeats + 1):
        setting = StepSetting(batch, seq - _APART * number)
        start = time.perf_counter()
        wait([get_pool().submit(0, memory_of, StepRequest(model, slug, {}, setting)) for slug in slugs])
        if number:  # the first one warms the processes
            yield time.perf_counter() - start


def _processor() -> float:
    """Seconds of processor time that this process's children have used so far."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))


if __name__ == "__main__":
    main()
