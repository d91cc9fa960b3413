"""Chat templates are programs shipped with a tokenizer: report their errors and stop those that do not end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import in_short

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Processor seconds allowed per text of a chat template; it takes milliseconds, but is a program of the model's.
LONGEST = 2.0


class TemplateError(ValueError):
    """A chat template raised an error or took too long. The message is half a sentence."""


class _Guarded:
    """A tokenizer whose template raises TemplateError, for whatever it raises and where it does not end."""

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        try:
            with _limited(LONGEST):
                return super().apply_chat_template(*args, **options)  # type: ignore[misc]
        except Exception as error:  # whatever code of a template's raises
            raise TemplateError(
                f"the model's chat template refuses it: {in_short(error).rstrip('.')}"
            ) from error


def guard(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the tokenizer raise TemplateError for whatever its template raises, or if it does not end. Copies do too."""
    kind = type(tokenizer)
    tokenizer.__class__ = type(kind.__name__, (_Guarded, kind), {"__module__": kind.__module__})


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block uses more processor time. Only a process's main thread can be stopped this way;
    worker processes run templates there."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(_number: int, _frame: object) -> None:
        raise TimeoutError(f"it takes more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
