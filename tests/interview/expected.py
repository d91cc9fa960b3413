"""Every independent recomputation by the question's id."""

from __future__ import annotations

from tests.interview.independent import EXPECTED as FIRST
from tests.interview.independent import Computation
from tests.interview.independent_lora import LORA, QLORA
from tests.interview.independent_practice import DATA, DEBUGGING, MERGING, PLANNING, PREFERENCE, SERVERS
from tests.interview.independent_rest import REST

_PARTS = (FIRST, LORA, QLORA, PREFERENCE, DATA, PLANNING, SERVERS, MERGING, DEBUGGING, REST)
EXPECTED: dict[str, Computation] = {name: compute for part in _PARTS for name, compute in part.items()}
assert len(EXPECTED) == sum(len(part) for part in _PARTS), "a question is recomputed twice"
