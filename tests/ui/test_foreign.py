"""Text that is not the app's own is shown as it is; nothing in ``peft_lab/ui`` shows any past ``foreign``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.ui.foreign import JOINER, code, plain
from tests.ui import texts

OWN = Path(__file__).with_name("own_texts.txt")
NEVER_OWN = re.compile(r"\b(error|problem|problems|message|exception)\b")


def reviewed() -> set[str]:
    return {
        line for line in OWN.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    }


def test_no_text_is_shown_that_nobody_has_looked_at() -> None:
    """A new line of ``own_texts.txt`` says: I have looked, this comes from the app itself."""
    unknown = {part: where for part, where in texts.all_shown().items() if part not in reviewed()}
    told = "\n".join(f"{part}   ({', '.join(where)})" for part, where in unknown.items())
    assert not unknown, (
        f"put through peft_lab.ui.foreign, or if it is the app's own add to {OWN.name}:\n{told}"
    )


def test_nothing_is_kept_as_own_that_is_shown_no_more_or_never_could_be() -> None:
    assert reviewed() - set(texts.all_shown()) == set()
    assert [line for line in reviewed() if NEVER_OWN.search(line.partition(": ")[2])] == []


@pytest.mark.parametrize(
    ("line", "doubtful"),
    [
        ("st.error(str(error))", ["error"]),
        ('st.markdown(f":red[{error}]")', ["error"]),
        ('st.markdown(f":red[{plain(error)}]")', []),
        ('st.markdown("own " + name)', ["name"]),
        ('st.caption("%s" % name)', ["name"]),
        ("left, right = st.columns(2); left.markdown(name)", ["name"]),
        ('st.button("Go", help=name)', ["name"]),
        ('said = f"{name}"; st.write(said)', ["name"]),
        ('st.markdown("\\n".join(f"- {each}" for each in lines))', ["each"]),
        ("st.markdown(units.size(count))", []),
        ("st.markdown(other.text(name))", ["other.text(name)"]),
        ('st.metric("Own", f"{value:.2f}")', []),
        ('st.metric("Own", name)', ["name"]),
        ("st.markdown(TEXT)", []),
        ("st.progress(0.5, text=name)", ["name"]),
    ],
)
def test_the_check_sees(line: str, doubtful: list[str], tmp_path: Path) -> None:
    module = tmp_path / "page.py"
    module.write_text(
        f"import streamlit as st\n\n\ndef draw(name: str, lines, error: Exception, count: int):\n    {line}\n"
    )
    assert [part for _, _, part in texts.shown(module)] == doubtful


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
