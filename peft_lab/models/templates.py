"""Chat templates are programs that come with a tokenizer: what they raise, and those that do not end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import in_short

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Seconds of processor time for one text of a chat template, which takes milliseconds: it is a program of the model's.
LONGEST = 2.0


class TemplateError(ValueError):
    """A chat template raised something, or takes too long. The message is half a sentence."""


def guard(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let what the tokenizer's template raises, and one that does not end, be a TemplateError wherever it is used."""
    write = tokenizer.apply_chat_template

    def guarded(*args: Any, **options: Any) -> Any:
        try:
            with _limited(LONGEST):
                return write(*args, **options)
        except Exception as error:  # whatever code of a template's raises
            raise TemplateError(
                f"the model's chat template refuses it: {in_short(error).rstrip('.')}"
            ) from error

    tokenizer.apply_chat_template = guarded  # type: ignore[method-assign]


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End what takes more processor time with a TimeoutError. Only a process's first thread can be ended so: in those
    that answer and train it is the one that reads."""
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
