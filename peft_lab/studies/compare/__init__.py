"""Comparing methods: which runs it takes (plan), where they are (found, store), carrying them out (carrying), and what
they say together (results, spread, pareto). Every run is an ordinary run of the run store."""
