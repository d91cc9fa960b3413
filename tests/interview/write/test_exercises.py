"""The exercises' files: a sample is read whole, and a mistake in a file is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.core.content import ContentError
from peft_lab.interview.write.exercises import read_exercise, read_exercises

SAMPLE = Path(__file__).with_name("sample") / "lora" / "lora-merge.md"


def test_a_file_is_read_whole() -> None:
    one = read_exercises(SAMPLE.parents[1])["lora-merge"]
    assert (one.path, one.level, one.minutes, one.function, one.tolerance) == ("lora", 2, 8, "merge", 1e-5)
    assert one.task.startswith("Return the weight") and "## " not in one.task
    assert len(one.examples) == 2 and all(code.startswith("merge(") for code in one.examples)
    assert [each.id for each in one.mistakes] == ["scaled-by-alpha", "unscaled", "in-place"]
    assert len(one.hints) == 3 and one.hints[0].startswith("If you")
    assert len(one.explanation) == 2 and one.explanation[1].endswith("as it was.")
    assert "..." in one.stub and "return weight + scale" in one.solution


@pytest.mark.parametrize(
    ("before", "after", "at"),
    [
        ("level: 2", "level: 4", "title:"),
        ("minutes: 8", "minutes: soon", "minutes:"),
        ("scratch:", "scrach:", "scrach:"),
        ("## Hints\n", "## Hint\n", "## Hint"),
        ("## Stub\n```python", "## Stub\n```", "## Stub"),
        ("def cases(random)", "def case(random)", "## Cases"),
        (
            "def merge(weight, a, b, alpha):\n    scale",
            "def fuse(weight, a, b, alpha):\n    scale",
            "## Solution",
        ),
        ("3. `return", "`return", "## Hints"),
        ("### unscaled: You", "### unscaled You", "### unscaled You"),
        ("### in-place: You changed", "### unscaled: You changed", "### unscaled: You changed"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, before: str, after: str, at: str) -> None:
    file = tmp_path / "lora" / "lora-merge.md"
    file.parent.mkdir()
    text = SAMPLE.read_text("utf-8")
    assert text.count(before) == 1
    text = text.replace(before, after)
    file.write_text(text, "utf-8")
    with pytest.raises(ContentError) as caught:
        read_exercise(file)
    assert (caught.value.path, caught.value.line) == (file, text[: text.index(at)].count("\n") + 1)


def test_an_id_stands_once(tmp_path: Path) -> None:
    for path in ("lora", "memory"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "lora-merge.md").write_text(SAMPLE.read_text("utf-8"), "utf-8")
    with pytest.raises(ContentError, match="lora-merge"):
        read_exercises(tmp_path)
