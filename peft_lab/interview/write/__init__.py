"""*Write it*: exercises in which the learner writes code, the judge that runs it, and what a learner has passed."""
