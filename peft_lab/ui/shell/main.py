"""The script that Streamlit runs for every page, named in ``app.py``: page configuration and navigation only."""

from peft_lab.ui import shell

shell.run_app()
