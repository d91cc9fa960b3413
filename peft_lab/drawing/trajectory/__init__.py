"""What a training went through, state by state, small enough to be played in a browser."""
