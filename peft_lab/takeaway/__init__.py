"""Taking a run away: a script or notebook that repeats it with the plain libraries, and the adapter with its papers."""

from __future__ import annotations

from peft_lab.runs.store import Run
from peft_lab.takeaway import bundle, card, files
from peft_lab.takeaway.bundle import library_zip
from peft_lab.takeaway.facts import gather, outcome
from peft_lab.takeaway.living_page import living_html
from peft_lab.takeaway.snippet import config_code

__all__ = ["adapter_zip", "config_code", "library_zip", "living_html", "model_card", "notebook", "script"]


def script(run: Run) -> str:
    """A Python file that repeats a run that has ended, its rows included, without this package.

    Raises:
        BadInput: a run without a result, or something about it that the plain libraries cannot repeat, with the reason.
        RunError: a folder that cannot be read. AssetError: sentences that have to be fetched again.
    """
    return files.script(gather(run))


def notebook(run: Run) -> str:
    """The same as the JSON text of a Jupyter notebook. Raises what :func:`script` raises."""
    return files.notebook(gather(run))


def model_card(run: Run) -> str:
    """The README.md of the run's adapter folder, as Hugging Face reads it.

    Raises:
        BadInput: settings that are not what they were. RunError: a folder that cannot be read.
    """
    return card.model_card(outcome(run))


def adapter_zip(run: Run) -> bytes:
    """The adapter folder with its model card and licences, as a zip file. Raises what :func:`script` raises."""
    return bundle.adapter_zip(gather(run))
