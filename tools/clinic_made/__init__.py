"""Short real fine-tunes with the plain libraries, and ways to spoil them: of them ``tools.make_clinic`` makes the cases
of the Debug clinic page, ``bench.clinic`` mutants and healthy runs."""
