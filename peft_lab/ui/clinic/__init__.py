"""The Debug clinic page."""
