"""Every fix that the clinic gives is run on the case that it mends: the fault shows in it, and with the fix no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.interview.clinic.diagnose import as_rows, rank
from peft_lab.interview.clinic.faults import MOMENTS, PROOF, Evidence, all_faults, get_fault
from tools.clinic_made.faults import SPOILS
from tools.clinic_made.in_use import USED
from tools.clinic_made.measured import TROUBLE, setup_of, too_large, unlearned

#: How much trouble there has to be in a case at least, and with the fix at most.
OTHERWISE = (5e-3, 1e-4)
BOUNDS = {unlearned: (0.97, 0.92), too_large: (2.0, 0.1)}
BOUNDS_OF = {
    "rate-too-high": (0.85, 0.75),  # it learns how often each token comes
    "rate-too-low": (0.98, 0.96),
    "merged-into-4-bit": (0.1, 0.05),  # merged in bfloat16
    "left-in-training-mode": (1e-4, 1e-6),
}


def test_every_fault_has_a_fix_that_is_run_or_says_why_not() -> None:
    faults = all_faults()
    assert {name for name, fault in faults.items() if fault.unrun} == {"empty-adapter"}
    for name, fault in faults.items():
        assert bool(fault.code) != bool(fault.unrun), name
        assert (name in TROUBLE) == bool(fault.code), name
        assert name in SPOILS or name in USED, name
        for moment, lines in fault.code.items():
            assert moment in MOMENTS
            compile(lines, name, "exec")


def test_a_diagnosis_gives_the_code_with_its_place() -> None:
    (row,) = as_rows(rank([Evidence("alpha-zero", PROOF, "lora_alpha is 0")]))
    assert row["code"] == {MOMENTS["config"]: get_fault("alpha-zero").code["config"]}


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", sorted(TROUBLE))
def test_the_fix_mends_the_case(fault: str, tmp_path: Path) -> None:
    measure, setup = TROUBLE[fault], setup_of(fault)
    least, most = BOUNDS_OF.get(fault) or BOUNDS.get(measure.func, OTHERWISE)
    assert measure(setup, tmp_path / "faulty") > least
    assert measure(replace(setup, mend=get_fault(fault).code), tmp_path / "mended") < most
