"""PEFT Lab as a web application: what answers, and to whom. Start it with ``streamlit run app.py`` or ``make app``.

Streamlit finds ``app`` here and serves it. The script that draws the pages lies elsewhere: beside this file Streamlit
would take the folder ``pages`` for its own list of pages and show their file names until the app's navigation came.
"""

import sys

import streamlit as st

from peft_lab.core.errors import PeftLabError
from peft_lab.ui import pages, shell
from peft_lab.ui.server import app as assets
from peft_lab.ui.server import guard
from peft_lab.ui.shell import dress

if __name__ == "__main__":  # run as the script itself, as Streamlit's AppTest does
    shell.run_app()
else:
    try:
        app = st.App(
            pages.MAIN,
            middleware=guard.middleware() + assets.asset_middleware() + dress.middleware(),
            lifespan=assets.ended_in_order(dress.ready),
        )
    except (
        PeftLabError
    ) as error:  # a code, a token or a log that cannot be used: whoever starts it can mend that
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
