"""The app's own CSS, as part of the HTML page, so that it applies before anything is drawn.

As elements of the page it came after the first of them, and moved what was there: a summed layout shift of
1.3 on a phone. It stands at the end of the body, after the styles that Streamlit puts into the head. The
scripts of common controls are loaded with the page, too: a control whose script comes late grows.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peft_lab.interview.tour import moved
from peft_lab.ui import home, pages, playground, theme, web
from peft_lab.ui.method import page as method
from peft_lab.ui.myths.page import MYTHS_CSS
from peft_lab.ui.server.door import below, root
from peft_lab.ui.server.guard import is_page
from peft_lab.ui.ship.page import SHIP_CSS
from peft_lab.ui.write.page import WRITE_CSS

SIDEBAR = 204  # pixels: every page's name fits, and the page has the rest
# The side bar comes with the first run of the script; its place is kept until then. What stands in it under the
# navigation is not seen before the navigation is there.
_SHELL = f"""
@media (min-width: 769px) {{
  .stApp:not(:has([data-testid="stSidebar"])) [data-testid="stAppViewContainer"] {{ padding-left: {SIDEBAR}px; }}
}}
[data-testid="stSidebarContent"]:not(:has([data-testid="stSidebarNavItems"])) [data-testid="stSidebarUserContent"] {{
  visibility: hidden; }}"""
_RULES = (
    web.read("fonts/fonts.css"),
    theme.CSS,
    theme.ROOM_CSS,
    _SHELL,
    web.read("doors.css"),
    home.HOME_CSS,
    playground.PLAYGROUND_CSS,
    method.BENCH_CSS,
    MYTHS_CSS,
    WRITE_CSS,
    SHIP_CSS,
)
STYLE = f"<style>{''.join(_RULES)}</style>".encode()
#: Streamlit's preload of its whole font, in whose place ours is preloaded.
_WHOLE_FONT = re.compile(rb"\./static/media/SourceSansVF-Upright\.[^\"]+")
_FONT = f"./static/media/{next(web.FONTS.glob('PEFTLabSans.*')).name}".encode()
#: Streamlit's names for what every page has, Home too, and for what most others have.
EVERYWHERE = ("BidiComponent", "Button", "Checkbox", "Html", "PageLink")
CONTROLS = (
    *EVERYWHERE, "ButtonGroup", "Metric", "NumberInput", "Progress", "Selectbox", "Slider", "TextInput",
)  # fmt: skip
#: Of a request for a page: what would have it answered compressed, or not at all as nothing changed.
_UNASKED = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")


#: And for formulas, which methods' pages and exercises begin with.
FORMULAS = ("rehype-katex",)
_NEEDED = re.compile(r"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")


@cache
def ahead(names: tuple[str, ...]) -> bytes:
    """Return links that preload the named scripts with the page, and the scripts that these import."""
    folder = Path(st.__file__).with_name("static") / "static/js"
    waiting = [file.name for name in names for file in sorted(folder.glob(f"{name}.*.js"))]
    index = (folder.parents[1] / "index.html").read_text(
        encoding="utf-8"
    )  # it preloads its own, which come first
    found: dict[str, None] = {}
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += _NEEDED.findall((folder / name).read_text(encoding="utf-8"))
    return "".join(
        f'<link rel="modulepreload" fetchpriority="low" crossorigin href="./static/js/{name}">'
        for name in found
        if name not in index
    ).encode()


def _ahead_of(path: str) -> bytes:
    """Return the preload links for the page at a path: of Home, few, as it is what a newcomer waits for."""
    page = below(root(), path)
    typeset = page in (*pages.method_pages(), "write")
    return ahead((CONTROLS if page else EVERYWHERE) + (FORMULAS if typeset else ()))


def middleware() -> list[Middleware]:
    """Return the middleware for ``st.App``."""
    return [Middleware(Dress)]


class Dress:
    """Adds :func:`ahead`, :data:`STYLE` and the script that folds the navigation to every HTML page; sends the
    browser on where an older address's content is now."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self._app(scope, receive, send)
            return
        name, query = (
            scope["path"].rpartition("/")[2],
            dict(parse_qsl(scope["query_string"].decode("latin-1"))),
        )
        page, settings = moved(name, query)
        if page != name:
            await RedirectResponse(f"{page}?{urlencode(settings)}")(scope, receive, send)
            return
        accepted = Headers(scope=scope).get("accept-encoding", "")
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if not _is_html(start) or message["type"] != "http.response.body":
                if start:
                    await send(start)
                    start = {}
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                head = f"<script>{pages.folding_script()}</script>".encode() + _ahead_of(scope["path"])
                dressed = body.replace(b"</head>", head + b"</head>", 1).replace(
                    b"</body>", STYLE + b"</body>", 1
                )
                dressed = _WHOLE_FONT.sub(_FONT, dressed)
                headers = MutableHeaders(scope=start)
                headers.add_vary_header("Accept-Encoding")
                if "gzip" in accepted:
                    dressed = gzip.compress(dressed, 6, mtime=0)
                    headers["content-encoding"] = "gzip"
                headers["content-length"] = str(len(dressed))
                for name in ("etag", "last-modified"):
                    del headers[name]
                await send(start)
                await send({"type": "http.response.body", "body": dressed})

        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _UNASKED]
        await self._app({**scope, "headers": kept}, receive, collect)


def _is_html(start: Message) -> bool:
    return bool(start) and is_page(start) and "content-encoding" not in Headers(raw=start["headers"])


# ----------------------------------------
# Projector mode: on and back by keys, as a presenter's clicker sends them.
#
# On a path they lead to its stops, elsewhere to the pages in the order of the navigation.


# Arrow keys belong to whatever has the focus and knows them; page keys scroll only what was written for scrolling.
JS = web.read("dress.js")
_mount = st.components.v2.component("peft_turning", html='<span class="turning" hidden></span>', js=JS)


def turning(page: str) -> None:
    """Draw links and keys for the previous and next page at the foot of a page in projector mode."""
    titles = list(pages.titles().items())
    at = next(index for index, (name, _) in enumerate(titles) if name == page)
    with st.container(horizontal=True, vertical_alignment="center", key="turn"):
        for way, other, icon in (("back", at - 1, "arrow_back"), ("next", at + 1, "arrow_forward")):
            if 0 <= other < len(titles):
                with st.container(key=f"turn-page-{way}", width="content"):
                    name, title = titles[other]
                    pages.link(name, title, icon)
        st.markdown(
            ":small[Keys: → next page, ← previous page, Esc leaves projector view. A presenter's clicker also "
            "works.]",
            width="content",
        )
    _mount(key="turning")


# ----------------------------------------
# What the first page is drawn by, read before anybody asks for it.


def ready() -> None:
    """Import the libraries of every page's frame and of Home, and read the run that Home plays. Streamlit reads the
    page's icon with numpy and Pillow; only the first page is prepared, as the others share most of it."""
    import numpy  # noqa: F401
    import PIL.Image

    PIL.Image.preinit()
    home.ready()
