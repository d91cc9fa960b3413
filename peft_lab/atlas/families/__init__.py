"""The declarations, one module a family."""
