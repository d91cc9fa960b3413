"""What was found about each method since its paper, one module a method."""
