"""What is asked after the questions on topics that concern all methods."""
