"""Export runs as files: script, notebook, page, adapter with card and licences; a method's settings as code.

``templates``: the files' texts (README.md there), which ``generator`` fills. ``facts``: what is known of a run.
``applied``: how a method is written out. ``ranks``: the functions in a plan's script.
"""

from __future__ import annotations

from peft_lab.runs.store import Run
from peft_lab.takeaway import bundle, card
from peft_lab.takeaway.bundle import library_zip
from peft_lab.takeaway.card import config_code, living_html
from peft_lab.takeaway.facts import gather, outcome

__all__ = ["adapter_zip", "config_code", "library_zip", "living_html", "model_card", "notebook", "script"]


def script(run: Run) -> str:
    """Return a Python file that repeats an ended run, including its rows, without this package. Raises BadInput if the
    run has no result, or the plain libraries cannot repeat it, with the reason; RunError if a folder cannot be read;
    AssetError if data must be downloaded again."""
    return bundle.run_script(gather(run))


def notebook(run: Run) -> str:
    """Return the same as the JSON text of a Jupyter notebook. Raises what :func:`script` raises."""
    return bundle.run_notebook(gather(run))


def model_card(run: Run) -> str:
    """Return the README.md of the run's adapter folder, in Hugging Face's format. Raises BadInput if settings are no
    longer valid; RunError if a folder cannot be read."""
    return card.model_card(outcome(run))


def adapter_zip(run: Run) -> bytes:
    """Return the adapter folder with model card and licences as a zip file. Raises what :func:`script` raises."""
    return bundle.adapter_zip(gather(run))
