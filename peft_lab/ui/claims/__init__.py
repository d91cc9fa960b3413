"""The page Fact check: what is said, what is found, and when it holds."""
