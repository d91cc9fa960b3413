"""The page Choose a method: the tree to walk, the situation in numbers, the recommendation."""
