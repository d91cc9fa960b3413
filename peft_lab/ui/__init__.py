"""The only Streamlit code in the package: the shell, the settings, and the sections that pages are composed of."""
