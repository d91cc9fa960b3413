"""How long plans take: cold, in processes that have just started, and warm, when everything was asked before.

    python -m bench.plan

Prints a row a situation: seconds cold and warm, over all ways that are tried.
"""

from __future__ import annotations

import time
from dataclasses import asdict

from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.core.inspector import get_pool

ASKED = {
    "Llama 3.1 8B, one H100": Wanted("llama-3.1-8b", "sft", 10_000, 384, 512, "h100"),
    "Mistral 7B, one RTX 4090, after it": Wanted("mistral-7b", "sft", 10_000, 384, 512, "rtx-4090"),
    "Llama 3.1 70B, eight H100": Wanted("llama-3.1-70b", "sft", 10_000, 384, 512, "h100", 8, "nvlink"),
}


def seconds(wanted: Wanted) -> tuple[float, int]:
    """For all candidates, and how many fit."""
    start = time.perf_counter()
    asked = [
        get_pool().submit(0, ranking.evaluate, asdict(wanted), asdict(one))
        for one in ranking.candidates(wanted)
    ]
    found = ranking.rank(wanted, [future.result() for future in asked])
    return time.perf_counter() - start, len(found)


def main() -> None:
    print("| situation | cold, s | warm, s | plans that fit |\n|---|---|---|---|")
    for title, wanted in ASKED.items():
        cold, fit = seconds(wanted)
        warm, _ = seconds(wanted)
        print(f"| {title} | {cold:.1f} | {warm:.3f} | {fit} |", flush=True)


if __name__ == "__main__":
    main()
