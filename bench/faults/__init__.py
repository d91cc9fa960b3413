"""Faults on purpose, many times, and what became of it: a table for bench/RESULTS.md.

    make faults                                     all campaigns, as often as the table says
    python -m bench.faults kills --times 3          one of them, less often

A campaign is a file in ``bench/faults/campaigns`` with a function ``run(place, times)`` that yields rows
(:class:`bench.faults.rows.Row`); a file that is put there is found. Each gets a folder of its own to work in, with the
real weights and sentences linked into a lab folder (:meth:`bench.faults.rows.Place.home`).
"""
