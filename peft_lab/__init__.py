"""PEFT Lab: parameter-efficient fine-tuning, counted, simulated and measured.

Importing this package imports neither torch nor Streamlit. Torch is loaded inside functions that run in worker
processes; Streamlit only in :mod:`peft_lab.ui`.
"""

__version__ = "0.1.0"
