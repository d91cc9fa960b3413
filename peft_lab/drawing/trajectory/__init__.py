"""Record trainings, state by state, small enough to be played in a browser."""
