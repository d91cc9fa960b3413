"""A type counted on a model by PEFT, with its closed form beside it. Imports torch; pages ask another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft_lab.atlas import get_entry
from peft_lab.counting.count import CountReport, count_config
from peft_lab.models.catalogue import resolve


@dataclass(frozen=True)
class Counted:
    """What PEFT trains, and what the closed form says (``None``: counted only)."""

    report: CountReport
    formula: int | None
    config: dict[str, Any]

    @property
    def equal(self) -> bool | None:
        return None if self.formula is None else self.formula == self.report.trainable


def counted(name: str, model: str, **changes: Any) -> Counted:
    """Count a type or variant at its usual settings, or with some of them changed.

    Raises:
        BadInput: PEFT cannot put it on this model, with the reason.
    """
    entry, shape = get_entry(name), resolve(model).shape
    config = entry.counted_config(shape, **changes)
    return Counted(count_config(model, config), entry.formula(shape, config), config)
