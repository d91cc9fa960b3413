"""Cut Streamlit's fonts down to what the app writes: `python -m tools.subset_fonts` (needs fonttools and brotli).

The results lie in ``peft_lab/ui/web/fonts``, with their characters in ``fonts.css``; the browser takes them first and
loads Streamlit's whole font only for other characters. The fonts' license reserves the name "Source", so the files
are renamed. Run it again after an icon or a character was added (tests/ui/test_server.py tells) or with another
Streamlit.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.material_icon_names import ALL_MATERIAL_ICONS

ROOT = Path(__file__).parents[1]
TO = ROOT / "peft_lab/ui/web/fonts"
STREAMLIT = Path(st.__file__).parent
MEDIA = STREAMLIT / "static/static/media"
#: Family and style in CSS, Streamlit's file, our name, the axes that are kept.
FONTS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("Source Sans", "normal", "SourceSansVF-Upright", "PEFT Lab Sans", {"wght": (400, 700)}),
    ("Source Sans", "italic", "SourceSansVF-Italic", "PEFT Lab Sans Italic", {"wght": (400, 700)}),
    ("Source Code Pro", "normal", "SourceCodeVF-Upright", "PEFT Lab Mono", {"wght": (400, 700)}),
    ("Source Serif", "normal", "SourceSerifVariable-Roman", "PEFT Lab Serif", {"wght": 600, "opsz": 24}),
)
ICONS = ("Material Symbols Rounded", "MaterialSymbols-Rounded", "PEFT Lab Icons")
TEXT = {".py", ".js", ".css", ".html", ".yaml", ".md", ".svg"}
LATIN = {*range(0x20, 0x7F), *range(0xA0, 0x100)}


def sources() -> Iterator[Path]:
    """Yield every file whose text may come on screen."""
    yield ROOT / "peft_lab/drawing/trajectory/sentence.json"
    for folder in ("peft_lab", "pages"):
        yield from (
            file for file in sorted((ROOT / folder).rglob("*")) if file.suffix in TEXT and file.parent != TO
        )


def characters() -> set[int]:
    """Return Latin-1 and every other character of the app's own texts."""
    return LATIN | {ord(letter) for file in sources() for letter in set(file.read_text(encoding="utf-8"))}


def icon_words() -> set[str]:
    """Return every icon that the app's pages or Streamlit's scripts name."""
    ours = " ".join(file.read_text(encoding="utf-8") for file in sources())
    scripts = (file.read_text(encoding="utf-8") for file in (STREAMLIT / "static/static/js").glob("*.js"))
    words = set(re.findall(r"material/(\w+)", ours)) | set(re.findall(r":material/(\w+)", " ".join(scripts)))
    for file in (*(ROOT / "peft_lab/ui").rglob("*.py"), *(ROOT / "pages").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        literals = set(re.findall(r"""["']([a-z]+(?:_[a-z0-9]+)*)["']""", text))
        words |= {word for word in literals if "_" in word or file.name == "pages.py"}
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "link":
                words |= {part.value for part in call.args[2:] if isinstance(part, ast.Constant)}
    return words & ALL_MATERIAL_ICONS


def ligatures(font: Any) -> dict[str, str]:
    """Return the glyph of each icon by the name that writes it."""
    letters = {glyph: chr(code) for code, glyph in font.getBestCmap().items()}
    found = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, rest in getattr(table, "ligatures", {}).items():
                for one in rest:
                    found["".join(letters.get(part, "?") for part in (first, *one.Component))] = one.LigGlyph
    return found


def ranges(codes: set[int]) -> str:
    """Return codes as a CSS ``unicode-range``."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return ",".join(f"U+{first:X}" + (f"-{last:X}" if last > first else "") for first, last in runs)


def write(font: Any, name: str, family: str, style: str, weight: str, *, block: bool = False) -> str:
    """Name a font, write it with a hash of its bytes in its file name, and return its CSS rule."""
    for record in font["name"].names:
        if record.nameID in {1, 3, 4, 6, 16, 25}:
            record.string = name.replace(" ", "") if record.nameID in {3, 6, 25} else name
    font.flavor = "woff2"
    file = TO / f"{name.replace(' ', '')}.woff2"
    font.save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    file = file.rename(file.with_name(f"{file.stem}.{digest}.woff2"))
    print(f"{file.name}: {file.stat().st_size:,} bytes")
    shown = "font-display:block;" if block else f"unicode-range:{ranges(set(font.getBestCmap()))};"
    return (
        f'@font-face{{font-family:"{family}";font-style:{style};font-weight:{weight};{shown}'
        f'src:url(./static/media/{file.name})format("woff2")}}\n'
    )


def main() -> None:
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont
    from fontTools.varLib.instancer import instantiateVariableFont

    TO.mkdir(exist_ok=True)
    for old in TO.glob("*.woff2"):
        old.unlink()
    rules = []
    for family, style, stem, name, axes in FONTS:
        font = TTFont(next(MEDIA.glob(f"{stem}.*")))
        options = Options(
            hinting=False, name_IDs=["*"], layout_features=["kern", "mark", "mkmk", "ccmp", "locl", "tnum"]
        )
        cut = Subsetter(options)
        cut.populate(unicodes=characters())
        cut.subset(font)
        font = instantiateVariableFont(font, axes)
        rules.append(write(font, name, family, style, "100 900"))
    family, stem, name = ICONS
    font = TTFont(next(MEDIA.glob(f"{stem}.*")))
    icons = ligatures(font)
    wanted = sorted(icon_words() & set(icons))
    cut = Subsetter(
        Options(hinting=False, name_IDs=["*"], layout_features=["liga", "rlig", "calt"], layout_closure=False)
    )
    cut.populate(
        glyphs=[icons[word] for word in wanted], unicodes=[ord(letter) for letter in set("".join(wanted))]
    )
    cut.subset(font)
    rules.append(write(font, name, family, "normal", "400", block=True))
    (TO / "fonts.css").write_text("".join(rules), encoding="utf-8")
    others = set(range(0x20, 0x110000)) - characters()  # of these alone Streamlit's whole fonts are loaded
    (TO / "others.txt").write_text(ranges(others), encoding="utf-8")
    (TO / "icons.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
