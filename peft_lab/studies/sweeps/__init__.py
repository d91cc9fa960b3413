"""Sweeps: many runs over knobs, learning rates and seeds, requested in one file."""
