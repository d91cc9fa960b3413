"""The page of a run: everything is inside, and nothing in it can break out of its place."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory import recorder
from peft_lab.drawing.trajectory.format import shipped
from peft_lab.models.catalogue import get_model
from peft_lab.runs import kept, store
from peft_lab.runs.spec import RunRequest
from peft_lab.takeaway import card


def page_of(**changes: object) -> str:
    found = shipped("bitfit")
    return card.living_page(replace(found, **changes), get_model(found.model.name).shape)  # type: ignore[arg-type]


def test_only_its_own_script_may_run_and_nothing_is_fetched() -> None:
    text = page_of()
    (script,) = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{allowed}';" in text
    outside = re.findall(
        r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!#)|@import|https?://(?!www\.w3\.org)""", text
    )
    assert not outside


def test_what_a_learner_wrote_stays_text() -> None:
    found = shipped("bitfit")
    assert found.example is not None
    nasty = "</script><script>alert(1)</script>"
    text = page_of(example=replace(found.example, text=nasty), spec={**found.spec, "own_data": nasty})
    assert nasty not in text and text.count("<script") == 2


def test_a_run_without_a_trajectory_says_why(assets_home: Path) -> None:
    run = store.create(RunRequest("minilm-l6", "bitfit", "sentiment", steps=2).complete())
    with pytest.raises(BadInput, match="recorded no steps"):
        takeaway.living_html(run)
    (run.folder / kept.TRAJECTORY).write_text(
        recorder.compact_trajectory(shipped("bitfit").to_dict()), "utf-8"
    )
    assert "BitFit on" in takeaway.living_html(run)
