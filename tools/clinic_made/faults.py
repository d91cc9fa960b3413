"""All faults that can be made."""

from __future__ import annotations

from tools.clinic_made import in_files, in_training
from tools.clinic_made.spoils import NEEDS, SPOILS

__all__ = ["NEEDS", "SPOILS", "in_files", "in_training"]
