"""The navigation's doors: every page stands behind one, and the script that folds them may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from peft_lab.atlas import all_types
from peft_lab.ui import pages
from peft_lab.ui.server import guard


def test_every_page_stands_behind_one_of_six_doors() -> None:
    behind = [name for names in pages.doors().values() for name in names]
    assert len(pages.doors()) == 6
    assert len(behind) == len(set(behind)) and set(behind) | set(pages.foot()) == {
        *pages.titles(),
        "classroom",
        "class_map",
    }
    assert {pages.door_of(name) for name in ("choose", "memory", "plan")} == {"Plan a fine-tune"}
    assert str(len(all_types())) in pages.titles()["atlas"]


def test_the_script_that_folds_them_names_every_page_and_is_allowed() -> None:
    script = pages.folding_script()
    found = re.search(r"doors = ({.*});", script)
    assert found is not None
    labels = json.loads(found[1])
    assert set(labels) == {*pages.titles(), "classroom", "class_map"} - set(pages.foot())
    assert set(labels.values()) == {pages.door_label(door) for door in pages.sections()}
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{allowed}'" in guard.headers()["content-security-policy"]
