"""Faults on purpose, many times, and what became of it: a table for bench/RESULTS.md.

    make faults                                     all campaigns, as often as the table says
    python -m bench.faults kills --times 3          one of them, less often
    python -m bench.faults --quick                  a twentieth of all
    python -m bench.faults --minutes 5              as many of each row as begin within five minutes

A campaign is a file in ``bench/faults/campaigns`` with ``TIMES``, how often it tries each of its faults, and a
function ``run(place, times)`` that yields rows (:class:`bench.faults.rows.Row`). It runs in a process of its own and
gets a folder to work in; :meth:`bench.faults.rows.Place.home` makes lab folders with the real weights and sentences.
"""
