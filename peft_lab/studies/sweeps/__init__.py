"""Sweeps: many runs over knobs, learning rates and seeds, asked for in one file."""
