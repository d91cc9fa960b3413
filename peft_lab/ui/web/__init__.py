"""Style sheets and scripts of the pages and their components, one file each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from peft_lab.core.disk import beside

#: Return one file's text, with each ``%NAME%`` in it replaced by the value of that name.
read = partial(beside, __file__)
#: The fonts that pages are drawn in, cut down to what the app writes; the browser takes Streamlit's for other letters.
FONTS = Path(__file__).parent / "fonts"
#: CodeMirror, which the editor of the page *Write it* imports; see tools/build_editor.py.
CODEMIRROR = next((Path(__file__).parent / "codemirror").glob("codemirror.*.js"))
