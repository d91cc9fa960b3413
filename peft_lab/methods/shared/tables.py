"""PEFT's own tables of default targets, read from the installed PEFT's source: importing it would import torch.

The tables are literals in ``peft/utils/constants.py``; a test holds what is read here equal to what PEFT imports.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Mapping
from functools import cache
from importlib import util
from pathlib import Path

from peft_lab.errors import PeftLabError

#: Python 3.11 fails where two threads build syntax trees at once ("recursion depth mismatch", CPython issue 106905).
_parsing = threading.Lock()
#: Architecture (``model_type``) to target names, or to a regular expression over whole paths.
Table = Mapping[str, tuple[str, ...] | str]


@cache
def lora_targets() -> Table:
    """PEFT's default targets of LoRA."""
    return _read("TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING")


@cache
def ia3_targets() -> Table:
    """PEFT's default targets of IA³."""
    return _read("TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING")


@cache
def ia3_feedforward() -> Table:
    """Those of PEFT's IA³ targets whose input is multiplied."""
    return _read("TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING")


def _read(name: str) -> Table:
    """One table by the name of PEFT's constant.

    Raises:
        PeftLabError: this PEFT keeps its tables elsewhere, or not as literals.
    """
    for node in _constants().body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            try:
                table = ast.literal_eval(node.value)
            except ValueError:
                break
            return {kind: names if isinstance(names, str) else tuple(names) for kind, names in table.items()}
    raise PeftLabError(
        f"The installed PEFT does not state its default targets where they are looked for ({name})."
    )


@cache
def _constants() -> ast.Module:
    found = util.find_spec("peft")  # of a package at the top level: nothing is imported
    if found is None or found.origin is None:
        raise PeftLabError("PEFT is not installed, so its default targets cannot be read.")
    text = (Path(found.origin).parent / "utils" / "constants.py").read_text("utf-8")
    with _parsing:
        return ast.parse(text)
