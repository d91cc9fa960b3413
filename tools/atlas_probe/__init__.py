"""What ``tools/probe_atlas.py`` asks of every type, in child processes on tiny models."""
