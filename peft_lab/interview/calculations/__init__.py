"""Compute answers, one file per topic. Each calculation takes a :class:`Case` and shows its working."""
