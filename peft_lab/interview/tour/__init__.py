"""Guided paths: stops with exact settings, what to read, change and see; the newcomer's path, and teachers' own."""
