"""The page Choose a method: the situation in numbers, the recommendation, and the decision tree."""
