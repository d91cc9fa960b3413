"""A real Ray cluster of two nodes on this machine: nodes and drivers are killed."""
