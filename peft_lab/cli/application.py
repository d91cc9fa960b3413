"""The typer application: registers commands, turns failures into one line and an exit status, handles signals."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from peft_lab.cli import output
from peft_lab.core import disk as storage
from peft_lab.core.errors import BadInput, PeftLabError

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# typer >= 0.26 carries its own copy of click, so the bases are reached through the class that typer exports.
UsageError: Any = typer.BadParameter.__mro__[2]

_LONGEST, _END = 400, 60  # characters of a word in a message, and of each end where it is longer

Function = TypeVar("Function", bound=Callable[..., Any])


class _Command(TyperCommand):
    """A command whose stdout carries nothing but its result."""

    def invoke(self, ctx: Any) -> Any:
        with output.reserved_stdout():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                raise typer.Abort from None


class _Group(TyperGroup):
    """Reports every expected failure as one line on stderr, with the documented exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def call() -> Any:
            return super(_Group, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        if not standalone_mode:
            return call()
        try:
            status = call()
            sys.stdout.flush()  # of --help: failures can still be reported
        except BadInput as error:
            status = _fail(str(error), BAD_INPUT)
        except PeftLabError as error:
            status = _fail(str(error), FAILED)
        except UsageError as error:
            status = _fail(usage(error), BAD_INPUT)
        except typer.Abort:
            status = _fail("interrupted", INTERRUPTED)
        except OSError as error:
            reason = storage.of_file(error, storage.home())
            if reason is None:
                raise
            # a name that is too long is the caller's
            status = _fail(reason, BAD_INPUT if error.errno == errno.ENAMETOOLONG else FAILED)
        sys.exit(status if isinstance(status, int) else OK)


def usage(error: Any) -> str:
    """Return an error of the command line as a sentence."""
    message: str = error.format_message()
    context = getattr(error, "ctx", None)
    return f"{message} (try '{context.command_path} --help')" if context else message


def _fail(message: str, status: int) -> int:
    """Print a message on one line, with very long words cut in the middle, and return the status."""
    words = (f"{word[:_END]}…{word[-_END:]}" if len(word) > _LONGEST else word for word in message.split())
    print(f"error: {' '.join(words)}", file=sys.stderr)
    return status


app = typer.Typer(
    cls=_Group,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(context: typer.Context) -> None:
    """PEFT Lab without the browser: count, simulate and run parameter-efficient fine-tuning.

    Results are tables, or with --json one JSON document. Bytes are whole numbers, times are seconds.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def command(name: str) -> Callable[[Function], Function]:
    """Register a function as the command ``name``."""
    return command_of(app, name)


def command_of(group: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Register a function as the command ``name`` of a group."""
    return group.command(name, cls=_Command)


def quieten_libraries() -> None:
    """Keep libraries' warnings off the terminal: commands print the important ones themselves, in one line. Call it
    before transformers is imported. TRANSFORMERS_VERBOSITY and HF_HUB_VERBOSITY turn the logs on."""
    importlib.import_module("peft_lab.core.quiet")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logging.captureWarnings(True)
    logging.getLogger().addHandler(logging.NullHandler())


@contextmanager
def stopping(ask_to_stop: Callable[[], None] | None = None, hint: str = "") -> Iterator[list[int]]:
    """Yield a list that collects SIGINT and SIGTERM; call ``ask_to_stop`` at the first. A second signal ends this
    process, and its run with it."""
    numbers: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        numbers.append(number)
        output.note(f"stopping after the current step (press Ctrl-C again to quit now){hint}")
        if ask_to_stop is not None:
            ask_to_stop()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
