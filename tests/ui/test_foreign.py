"""Text that is not the app's own is shown letter by letter; no error is shown past ``foreign``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.ui import foreign
from peft_lab.ui.foreign import JOINER, code, plain

UI = Path(foreign.__file__).parent
SHOWS = {
    "markdown",
    "caption",
    "write",
    "error",
    "warning",
    "info",
    "success",
    "toast",
    "button",
    "metric",
    "title",
}
MAKE_SAFE = {"plain", "code", "error_line", "filled", "escape"}


def unguarded(source: str) -> list[str]:
    """Return the texts of caught exceptions that a module hands to Streamlit past ``foreign``, with their lines."""
    seen = []
    for handler in ast.walk(ast.parse(source)):
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            for call in ast.walk(handler):
                if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in SHOWS:
                    texts = [*call.args, *(keyword.value for keyword in call.keywords)]
                    seen += [
                        f"{call.lineno}: {ast.unparse(text)}" for text in texts if _raw(text, handler.name)
                    ]
    return seen


def _raw(node: ast.AST, name: str) -> bool:
    """Return whether ``name`` is in an expression, but in a call that makes it safe."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in MAKE_SAFE:
        return False
    return (isinstance(node, ast.Name) and node.id == name) or any(
        _raw(part, name) for part in ast.iter_child_nodes(node)
    )


@pytest.mark.parametrize("file", sorted(UI.rglob("*.py")), ids=lambda file: file.relative_to(UI).as_posix())
def test_no_error_is_shown_as_markdown(file: Path) -> None:
    """What an address, a file or a learner put into an error; tests/browser/test_foreign.py tries all pages with it."""
    assert unguarded(file.read_text("utf-8")) == []


def test_an_unguarded_error_is_seen() -> None:
    source = "try:\n    f()\nexcept E as error:\n    st.error({})\n"
    assert unguarded(source.format("f'no: {error}'")) == ["4: f'no: {error}'"]
    assert unguarded(source.format("f'no: {plain(error)}'")) == []


HOSTILE = (
    "![x](http://evil.example/a.png)",
    "[x](http://evil.example)",
    "<http://evil.example>",
    "http://evil.example www.evil.example a@evil.example",
    "<img src=http://evil.example/a.png>",
    "&lt;img&gt; &#58;",
    "$\\href{http://evil.example}{x}$ $$x$$",
    ":red[x] :material/home: :joy: :streamlit: :red-badge[x]",
    "`code` ```\nfence",
    "# head\n\n- item\n1. item\n> quote\n---\n| a | b |\n|---|---|",
    "\\![x](y) \\\\![x](y)",
    "*b* _i_ ~~s~~ [^1] [x]: http://evil.example",
    "\u202eelpmaxe.live\u2066",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_made_plain(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>&$~|]", shown.replace("\\\\", "")), (
        "every mark is escaped"
    )
    assert not re.search(r"https?://|www\.|:[\w/+-]|\w@\w|[\u202a-\u202e\u2066-\u2069]", shown)
    assert not re.match(r"[#+=-]|\d+[.)]", shown)
    # to a reader it is the same
    letters = re.sub(r"\\(.)", r"\1", shown).replace(JOINER, "")
    assert letters == " ".join(re.sub("[\u202e\u2066]", "", text).split())


def test_ordinary_words_stay_as_they_are() -> None:
    for text in (
        "There is no model called 'x'. Known: gpt2, llama-3.2-3b.",
        "12 of 20 (60%), 3e-4",
        "Anna: 3 stops!",
    ):
        assert plain(text) == text
    assert plain(BadInput("A rank is 1 to 256.", "r")) == "A rank is 1 to 256."
    assert plain("12. stop") == "12\\. stop"
    assert plain("") == ""


@pytest.mark.parametrize("text", ["a", "a`b", "``", "a\nb", ""])
def test_code_cannot_be_left(text: str) -> None:
    shown = code(text)
    fence = re.match("`+", shown)
    assert fence is not None
    inner = shown[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in inner
    assert "\n" not in shown
