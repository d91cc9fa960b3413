"""The Memory page: its controls, and one file per part."""
