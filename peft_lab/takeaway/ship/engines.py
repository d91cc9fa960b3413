"""Run an engine in an environment of its own on an adapter's files, and return its answers.

The program that runs there is ``templates/ask_engine.py.j2``: it imports the engine and nothing of this package.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.takeaway.generator import TEMPLATES

#: By engine, the module that says whether it is installed, and the line that installs it.
INSTALL = {
    "llama.cpp": ("xllamacpp", "pip install 'peft-lab[ship]'"),
    "mlx": ("mlx_lm", "make engines"),
    "vllm": ("vllm", "make engines"),
}
PROGRAM = TEMPLATES / "ask_engine.py.j2"


@dataclass(frozen=True)
class Answer:
    """One greedy answer: its token ids without the end, and log-probabilities of the likeliest first tokens."""

    ids: tuple[int, ...]
    first: dict[int, float]


def answers(
    engine: str,
    python: str | Path,
    base: str | Path,
    adapters: Sequence[str | Path | None],
    prompts: Sequence[Sequence[int]],
    tokens: int = 48,
    **job: Any,
) -> Iterator[tuple[Answer, ...] | str]:
    """Yield for each adapter (``None``: the base alone) one answer a prompt, or the engine's error as text.

    Args:
        python: of the environment that has the engine. base: a GGUF file for llama.cpp, else a model's folder.
        prompts: token ids. tokens: to make at most. job: ``stop`` (token ids), ``top`` (log-probabilities of the first
            token), ``rank`` (vLLM's ``max_lora_rank``), ``threads``, ``timeout`` in seconds.

    Raises:
        BadInput: the environment lacks the engine, with the line that installs it.
    """
    module, line = INSTALL[engine]
    if subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, check=False).returncode:
        raise BadInput(f"{engine} is not installed here. Install it with: {line}", "engine")
    told: dict[str, Any] = {
        "stop": [],
        "top": 20,
        "rank": 16,
        "threads": 2,
        **job,
        "engine": engine,
        "base": str(base),
    }
    told |= {"prompts": [list(prompt) for prompt in prompts], "tokens": tokens}
    together = (
        [list(adapters)] if engine == "vllm" else [[one] for one in adapters]
    )  # a crash ends one process
    for some in together:
        told["adapters"] = [str(one) if one else None for one in some]
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            ran = subprocess.run(
                [str(python), str(PROGRAM)],
                input=json.dumps(told), stdout=subprocess.PIPE, stderr=log, text=True, check=False,
                timeout=job.get("timeout"),
            )  # fmt: skip
            log.seek(0)
            last = log.read()[-300:].strip()
        lines = [json.loads(text) for text in ran.stdout.splitlines()]
        for line in lines:
            yield (
                line["error"]
                if "error" in line
                else tuple(_answer(one, told["stop"]) for one in line["answers"])
            )
        for _ in some[len(lines) :]:
            yield f"the engine ended with code {ran.returncode}: {last}"


def _answer(made: Mapping[str, Any], stop: Sequence[int]) -> Answer:
    first = {int(token): float(share) for token, share in made["first"].items()}
    return Answer(tuple(token for token in made["ids"] if token not in stop), first)
