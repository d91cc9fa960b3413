"""Export runs as files: script, notebook, page, adapter with card and licences; a method's settings as code.

``templates``: the files' texts (README.md there), which ``generator`` fills. ``facts``: what is known of a run.
``applied``: how a method is written out. ``ranks``: the functions in a plan's script.
"""

from __future__ import annotations

from peft_lab.takeaway.bundle import adapter_zip, library_zip, model_card, notebook, script
from peft_lab.takeaway.card import config_code, living_html

__all__ = ["adapter_zip", "config_code", "library_zip", "living_html", "model_card", "notebook", "script"]
