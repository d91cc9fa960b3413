"""``app``: start the app in the browser, from any folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from peft_lab.assets import store as assets
from peft_lab.cli.application import command
from peft_lab.cli.progress import ProgressBars
from peft_lab.errors import AssetError, PeftLabError

PACKAGE = Path(__file__).parents[1]


@command("app")
def app_command(
    port: Annotated[int, typer.Option(help="Where it listens.", min=1, max=65535)] = 8501,
    fetch: Annotated[bool, typer.Option(help="First fetch weights and sentences that are missing.")] = True,
) -> None:
    """Start the app and say where to open it. Ctrl-C ends it."""
    script = app_script()
    if fetch:
        try:
            with ProgressBars() as bars:
                assets.fetch((), lambda name, done: bars.update(assets.ASSETS[name].title, done))
        except AssetError as trouble:
            print(f"{trouble}\nThe app starts without them; `peft-lab fetch` tries again.", file=sys.stderr)
    arguments = ["-m", "streamlit", "run", str(script), "--server.port", str(port)]
    # a process of its own: Streamlit wants the main thread and the signals
    status = subprocess.run([sys.executable, *arguments], check=False).returncode
    if status:
        raise typer.Exit(status)


def app_script() -> Path:
    """The app's first file: in a checkout beside the package, in an installed package inside it.

    Raises:
        PeftLabError: the package was put together without it.
    """
    for script in (PACKAGE.parent / "app.py", PACKAGE / "_app/app.py"):
        if script.is_file() and (script.parent / "pages").is_dir():
            return script
    raise PeftLabError("This copy of PEFT Lab has no app.py: install it again, or start from a checkout.")
