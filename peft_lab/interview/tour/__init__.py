"""Guided paths: stops with exact settings, what to read, move and see; the newcomer's path, and teachers' own."""
