"""A class as its teacher sees it, and what is removed when it is old."""
