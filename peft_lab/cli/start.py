"""``app`` and ``serve``: start the app in the browser, from any folder, for oneself or for a class."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Annotated

import typer

from peft_lab.classroom import joining
from peft_lab.cli import output
from peft_lab.cli.application import command
from peft_lab.cli.catalog import fetched
from peft_lab.cli.options import option
from peft_lab.core import asking, disk, journal
from peft_lab.core.errors import AssetError, PeftLabError
from peft_lab.drawing.trajectory.sentence import MODEL
from peft_lab.interview.write import judge

PACKAGE = Path(__file__).parents[1]
EVERYWHERE = "0.0.0.0"
_BASE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")

Port = Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)]
Fetch = Annotated[
    bool,
    typer.Option(
        help="Download missing weights and data first: for the app what its first page trains, for a server all."
    ),
]


@command("app")
def app_command(port: Port = 8501, fetch: Fetch = True) -> None:
    """Start the app and print its address. Press Ctrl-C to stop it. Other models are fetched where they are used."""
    _start(port, fetch, (), {}, (MODEL,))


@command("serve")
def serve_command(
    port: Port = 8501,
    fetch: Fetch = True,
    of_class: Annotated[
        bool,
        option(
            "--class",
            None,
            "Serve a class: learners join once with a code, and each has separate runs and answers.",
        ),
    ] = False,
    code: Annotated[
        str | None, typer.Option(help="The code for joining; without it, one is generated and stored.")
    ] = None,
    limit: Annotated[
        str | None,
        option(
            "--limit",
            "NAME=N,…",
            "Limits per learner, and on the number of learners, such as runs=3,steps=300 or learners=100.",
        ),
    ] = None,
    models: Annotated[
        list[Path] | None,
        option("--models", "DIR", "A folder of models that the class may use by path; repeatable."),
    ] = None,
    programs: Annotated[
        bool,
        option("--programs", None, "Let learners run the programs that they write in the exercises."),
    ] = False,
    login: Annotated[
        list[str] | None,
        option(
            "--login",
            "WHO",
            "Who may join by signing in at an identity provider: ann@school.example, @school.example, or * for "
            "everyone whom the provider admits; repeatable. Needs [auth] in .streamlit/secrets.toml.",
        ),
    ] = None,
    teachers: Annotated[
        list[str] | None,
        option("--teacher", "ADDRESS", "The address of a teacher who signs in; repeatable."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The network address to listen on; for a class, all by default.")
    ] = None,
    base_path: Annotated[
        str,
        option("--base-path", "PATH", "The app's path behind a proxy: lab for https://host/lab/."),
    ] = "",
    log: Annotated[
        str | None,
        option("--log", "FILE", "The file for events, one JSON object per line; - for the terminal."),
    ] = None,
) -> None:
    """Start the app as a server, for one person or a class. Press Ctrl-C to stop it."""
    environment = {}
    if log is not None:
        environment[journal.VARIABLE] = log if log == "-" else str(Path(log).absolute())
        journal.require(environment[journal.VARIABLE], "--log ")
    if of_class:
        environment[asking.CLASS_VARIABLE] = (
            code or os.environ.get(asking.CLASS_VARIABLE) or joining.class_keys().join
        )
        if limit is not None:
            environment[asking.LIMITS_VARIABLE] = limit
        if models:
            environment[asking.MODELS_VARIABLE] = os.pathsep.join(str(_folder(folder)) for folder in models)
        if programs:
            judge.require_lock()
            environment[asking.PROGRAMS_VARIABLE] = "1"
        environment |= _login(login or [], teachers or [])
        os.environ.update(environment)
        _describe_class()
    elif code is not None or limit is not None or models or programs or login or teachers:
        raise typer.BadParameter(
            "--code, --limit, --models, --programs, --login and --teacher are for a class. Add --class."
        )
    where, path = address or (EVERYWHERE if of_class else None), base_path.strip("/")
    if path and not _BASE.fullmatch(path):
        raise typer.BadParameter("--base-path takes letters, digits, hyphens, underscores and slashes.")
    more = () if where is None else ("--server.address", where)
    _start(port, fetch, (*more, *(("--server.baseUrlPath", path) if path else ())), environment)


def _describe_class() -> None:
    """Print the codes of a class and what learners may use."""
    of_learner = asking.limits()
    output.note(f"Learners' code: {asking.join_code()}")
    output.note(f"Your code as the teacher: {joining.class_keys().teacher}")
    output.note(f"Each learner may have {of_learner.in_words()}.")
    output.note(f"Up to {of_learner.people} can join; change this with --limit learners=N.")
    if joining.login_is_on():
        output.note(f"They can also sign in: {', '.join(joining.is_listed(joining.WHO_MAY_LOG_IN))}")
    if asking.folder_allowed():
        output.note(f"The class may use the models in {', '.join(map(str, asking.folder_allowed()))}")
    if asking.programs_are_run():
        output.note(
            "Learners may run the programs that they write. docs/threat-model.md says how these programs are contained."
        )


def _login(who: list[str], teachers: list[str]) -> dict[str, str]:
    """Return the environment of a class whose learners sign in. Raises BadParameter if nobody could."""
    if teachers and not who:
        raise typer.BadParameter("--teacher needs people who sign in. Add --login.")
    if who and util.find_spec("authlib") is None:
        raise typer.BadParameter(
            "--login needs Authlib. Install it: pip install 'peft-lab[oidc]' (in a clone, '.[oidc]')."
        )
    lists = {joining.WHO_MAY_LOG_IN: ",".join(who), joining.TEACHERS: ",".join(teachers)}
    return {name: value for name, value in lists.items() if value}


def _folder(named: Path) -> Path:
    """Return a models folder. Raises BadInput if missing, BadParameter if its path has ``os.pathsep``."""
    path = disk.folder(disk.at_home(str(named)), "models")
    if os.pathsep in str(path):
        raise typer.BadParameter(
            f"{named} has a '{os.pathsep}' in its path, which separates folders. Rename the folder."
        )
    return path


def _start(
    port: int,
    fetch: bool,
    more: tuple[str, ...],
    environment: Mapping[str, str],
    needed: Sequence[str] = (),
) -> None:
    """Start the app as a child process, after fetching ``needed`` (default: everything)."""
    script = app_script()
    if fetch:
        try:
            fetched(needed, calibrate=True)
        except AssetError as trouble:
            print(f"{trouble}\nThe app starts without them; retry with `peft-lab fetch`.", file=sys.stderr)
    arguments = ["-m", "streamlit", "run", str(script), "--server.port", str(port), *more]
    status = _run_child([sys.executable, *arguments], {**os.environ, **environment})
    if status:
        raise typer.Exit(status)


def _run_child(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run a command as a child process and return its status; Streamlit needs its main thread and signals. SIGTERM to
    this process, as from a container or systemd, terminates the child, and its end is awaited."""
    child = subprocess.Popen(arguments, env=dict(environment))
    terminated = []

    def hand_on(number: int, _: object) -> None:
        terminated.append(number)
        child.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        status = child.wait()
    except KeyboardInterrupt:  # Ctrl-C reaches the child, too
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if terminated else status


def app_script() -> Path:
    """Return the path of app.py: beside the package in a checkout, inside it when installed. Raises PeftLabError if the
    package has none."""
    for script in (PACKAGE.parent / "app.py", PACKAGE / "_app/app.py"):
        if script.is_file() and (script.parent / "pages").is_dir():
            return script
    raise PeftLabError("This copy of PEFT Lab has no app.py. Install it again, or start from a clone.")
