"""The Memory page: its controls, and one file for each of its parts."""
