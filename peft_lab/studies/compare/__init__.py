"""Compare methods: which runs to make (plan), where they are (store), making them (carrying), their joint
results (results, shipped). Every run is an ordinary run of the run store."""
