"""PEFT Lab. Page configuration and navigation only; start with ``streamlit run app.py`` or ``make app``."""

from peft_lab.ui import shell

shell.run_app()
