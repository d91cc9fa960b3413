"""``app`` and ``serve``: start the app in the browser, from any folder; for oneself, or for a class."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Annotated

import typer

from peft_lab.classroom import joining
from peft_lab.cli import output
from peft_lab.cli.application import command
from peft_lab.cli.output import ProgressBars
from peft_lab.core import asking, disk, journal, limits
from peft_lab.core.errors import AssetError, PeftLabError
from peft_lab.models.assets import store as assets

PACKAGE = Path(__file__).parents[1]
EVERYWHERE = "0.0.0.0"
_BASE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")

Port = Annotated[int, typer.Option(help="Where it listens.", min=1, max=65535)]
Fetch = Annotated[bool, typer.Option(help="First fetch weights and sentences that are missing.")]


@command("app")
def app_command(port: Port = 8501, fetch: Fetch = True) -> None:
    """Start the app and say where to open it. Ctrl-C ends it."""
    _start(port, fetch, (), {})


@command("serve")
def serve_command(
    port: Port = 8501,
    fetch: Fetch = True,
    of_class: Annotated[
        bool,
        typer.Option("--class", help="For a class: who joins gives a code once, and owns what they make."),
    ] = False,
    code: Annotated[
        str | None, typer.Option(help="The code by which learners join; without it, one is made and kept.")
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=N,…",
            help="What one learner may take up, and how many may join, such as runs=3,steps=300 or "
            "learners=100.",
        ),
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--models",
            metavar="DIR",
            help="A folder of models that the class may use by their paths; repeatable.",
        ),
    ] = None,
    login: Annotated[
        list[str] | None,
        typer.Option(
            "--login",
            metavar="WHO",
            help="Whom an identity provider vouches for may join by signing in: ann@school.example, @school.example, "
            "or * for all whom it lets in; repeatable. Needs [auth] in .streamlit/secrets.toml.",
        ),
    ] = None,
    teachers: Annotated[
        list[str] | None,
        typer.Option("--teacher", metavar="ADDRESS", help="Who signs in with it is a teacher; repeatable."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The network address it listens at; a class is listened to at all.")
    ] = None,
    base_path: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="Below which path it lies, behind a proxy: lab for https://host/lab/."
        ),
    ] = "",
    log: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Where events are written, one line of JSON each; - for the terminal."
        ),
    ] = None,
) -> None:
    """Start the app as a server, for one person or for a class. Ctrl-C ends it."""
    environment = {}
    if log is not None:
        environment[journal.VARIABLE] = log if log == "-" else str(Path(log).absolute())
        journal.require(environment[journal.VARIABLE], "--log ")
    if of_class:
        environment[asking.CLASS_VARIABLE] = (
            code or os.environ.get(asking.CLASS_VARIABLE) or joining.class_keys().join
        )
        if limit is not None:
            environment[limits.VARIABLE] = limit
        if models:
            environment[asking.MODELS_VARIABLE] = os.pathsep.join(str(_folder(each)) for each in models)
        environment |= _login(login or [], teachers or [])
        os.environ.update(environment)
        learners_code, each = asking.join_code(), limits.limits()
        output.note(f"Learners join with the code {learners_code}")
        output.note(f"You open the teacher's page with the code {joining.class_keys().teacher}")
        output.note(f"Each may have {each.in_words()}.")
        output.note(f"Up to {each.people} may join; --limit learners=N changes that.")
        if joining.login_is_on():
            output.note(
                f"They join by signing in, too: {', '.join(joining.is_listed(joining.WHO_MAY_LOG_IN))}"
            )
        if asking.folder_allowed():
            output.note(f"It may use the models in {', '.join(map(str, asking.folder_allowed()))}")
    elif code is not None or limit is not None or models or login or teachers:
        raise typer.BadParameter(
            "--code, --limit, --models, --login and --teacher are for a class: add --class."
        )
    where = address or (EVERYWHERE if of_class else None)
    more = () if where is None else ("--server.address", where)
    _start(port, fetch, (*more, *_below(base_path)), environment)


def _login(who: list[str], teachers: list[str]) -> dict[str, str]:
    """The environment of a class that can be joined by signing in. Raises BadParameter where nobody could."""
    if teachers and not who:
        raise typer.BadParameter("--teacher says which of those who sign in is one: add --login.")
    if who and util.find_spec("authlib") is None:
        raise typer.BadParameter(
            "--login needs Authlib: pip install 'peft-lab[oidc]' (in a clone, '.[oidc]')."
        )
    said = {joining.WHO_MAY_LOG_IN: ",".join(who), joining.TEACHERS: ",".join(teachers)}
    return {name: value for name, value in said.items() if value}


def _below(path: str) -> tuple[str, ...]:
    """What Streamlit is told of a base path. Raises typer.BadParameter for what is none."""
    wanted = path.strip("/")
    if wanted and not _BASE.fullmatch(wanted):
        raise typer.BadParameter("--base-path takes letters, digits, hyphens, underscores and slashes.")
    return ("--server.baseUrlPath", wanted) if wanted else ()


def _folder(named: Path) -> Path:
    """The folder that is meant. Raises BadParameter where there is none, or the list of them cannot name it."""
    found = disk.folder(disk.at_home(str(named)), "models")
    if os.pathsep in str(found):
        raise typer.BadParameter(
            f"{named} has a '{os.pathsep}' in its path, which parts the folders of a class."
        )
    return found


def _start(port: int, fetch: bool, more: tuple[str, ...], environment: Mapping[str, str]) -> None:
    script = app_script()
    if fetch:
        try:
            with ProgressBars() as bars:
                assets.fetch((), lambda name, done: bars.update(assets.ASSETS[name].title, done))
        except AssetError as trouble:
            print(f"{trouble}\nThe app starts without them; `peft-lab fetch` tries again.", file=sys.stderr)
    arguments = ["-m", "streamlit", "run", str(script), "--server.port", str(port), *more]
    status = _carried([sys.executable, *arguments], {**os.environ, **environment})
    if status:
        raise typer.Exit(status)


def _carried(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end in a process of its own (Streamlit wants the main thread and the signals); its exit
    status. Whoever ends this process (a container, systemd) means that one: it is told, and waited for."""
    child = subprocess.Popen(arguments, env=dict(environment))
    asked = []

    def hand_on(number: int, _: object) -> None:
        asked.append(number)
        child.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        status = child.wait()
    except KeyboardInterrupt:  # Ctrl-C reaches the child, too
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if asked else status


def app_script() -> Path:
    """The app's first file: in a checkout beside the package, in an installed package inside it.

    Raises:
        PeftLabError: the package was put together without it.
    """
    for script in (PACKAGE.parent / "app.py", PACKAGE / "_app/app.py"):
        if script.is_file() and (script.parent / "pages").is_dir():
            return script
    raise PeftLabError("This copy of PEFT Lab has no app.py: install it again, or start from a checkout.")
