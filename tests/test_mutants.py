"""The tool that breaks the code on purpose: which changes it makes, and which it leaves out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tools.mutants.changes import mutants_of
from tools.mutants.trying import ROOT

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass, field

SIZE: int | None = 16

@dataclass(frozen=True)
class Thing:
    size: int | None = 8
    name: str = field(repr=False)

def grown(by: int | None, **more: int) -> int | None:
    sizes = [SIZE + 1, *more.values()]
    return max(*sizes) if by > 512 else None
"""


def test_numbers_comparisons_and_signs_are_changed_and_what_does_nothing_is_not(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(SOURCE)
    found = list(mutants_of(tmp_path, "module.py"))
    after = {(each.before, each.after.replace("  ", " ")) for each in found}
    assert ("SIZE: int | None = 16", "SIZE: int | None = 17") in after
    assert ("size: int | None = 8", "size: int | None = 7") in after
    assert {"> 512", ">= 512", "<= 512", "> 513"} == {
        said for _, text in after for said in ("> 512", ">= 512", "<= 512", "> 513") if said in text
    }
    assert ("sizes = [SIZE + 1, *more.values()]", "sizes = [SIZE - 1, *more.values()]") in after
    for said in ("&", "frozen=False", "repr=True", "//"):
        assert not [text for _, text in after if said in text], said
    for each in found:
        assert each.code != SOURCE and each.code.splitlines()[each.line - 1].strip() == each.after


def test_the_settings_name_what_there_is() -> None:
    settings = tomllib.loads((ROOT / "tools/mutants/settings.toml").read_text("utf-8"))
    for said in settings["packages"].values():
        assert all(list(ROOT.glob(pattern)) for pattern in said["modules"])
        for tests in (said["tests"], *said.get("own", {}).values()):
            named = [test for test in tests if test.startswith("tests")]
            assert named and all((ROOT / test).exists() for test in named)
        assert all((ROOT / module).is_file() for module in said.get("own", {}))


@pytest.mark.parametrize(
    "entry", tomllib.loads((ROOT / "tools/mutants/settings.toml").read_text("utf-8"))["same"]
)
def test_what_makes_no_difference_is_still_in_the_code_and_says_why(entry: dict[str, str]) -> None:
    lines = {line.strip() for line in (ROOT / entry["module"]).read_text("utf-8").splitlines()}
    assert entry["before"] in lines and entry["why"]
