"""The sections of a method page, one per file, the same on every page."""
