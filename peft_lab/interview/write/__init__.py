"""*Write it*: exercises in which the learner writes code, and the judge that runs it.

- ``exercises.exercises()`` returns all by id, ``exercises.exercise(id)`` one, ``exercises.PATHS`` the paths' titles.
- ``judge.check(id, program)`` returns a ``Verdict``: ``passed``, ``tests`` (each ``name``, ``ok``, ``expected``,
  ``got``), ``mistake`` (its id or None), ``message`` (one sentence, empty if passed), ``line`` (of the program, or
  None), ``printed`` and ``seconds``.
- ``judge.examples(id)`` returns the two examples, each as its code and what it gives.
- ``judge.refusal()`` says why no program may be run here (in a class), empty if it may; ``judge.protection()`` says
  what holds a program on this system; ``judge.warm()`` starts the judge's process ahead, and returns at once.
- ``progress.record(learners, name, verdict, tries, hints, seconds)`` and ``progress.standing(learners, name)`` keep
  what a learner did.
"""
