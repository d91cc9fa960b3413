"""Check the exercises of *Write it*: ``python -m tools.check_exercises [ID or FILE ...]``.

Says of each whether its solution passes, its stub fails, and every mistake is recognised as itself, what its examples
give, and how long its cases take. Runs their code in this process. Ends with status 1 if something is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from peft_lab.core.content import ContentError, mistake
from peft_lab.core.errors import UnknownName
from peft_lab.interview.bank import all_questions
from peft_lab.interview.write import child, compare
from peft_lab.interview.write.compare import Raised, Results
from peft_lab.interview.write.exercises import Exercise, exercise, exercises, read_exercise

LONGEST = 0.3  # seconds of an exercise's cases


def results(one: Exercise, program: str) -> Results:
    """Return the results of a program over the exercise's cases."""
    found = list(child.results(one.cases, one.function, program))
    return [(case["name"], compare.decode(case["result"])) for case in found[:-1]]


def faults(one: Exercise, questions: bool = True) -> Iterator[str]:
    """Yield what is wrong with an exercise, a sentence each."""
    programs = {"Stub": one.stub, "Cases": one.cases, "Solution": one.solution}
    programs |= {wrong.id: wrong.code for wrong in one.mistakes}
    for name, code in programs.items():
        try:
            compile(code, name, "exec")
        except SyntaxError as error:
            yield str(
                mistake(one.file, f"{name}: {error.msg}.", *([error.text.strip()] if error.text else []))
            )
            return
    right = results(one, one.solution)
    started = time.process_time()
    again = results(one, one.solution)
    seconds = time.process_time() - started
    if seconds > LONGEST:
        yield f"its cases take {seconds:.2f} s, more than {LONGEST} s"
    if len(right) < 4:
        yield f"four cases or more are needed, there are {len(right)}"
    if [test for test in compare.tests(right, again, one.tolerance) if not test.ok]:
        yield "two runs of the solution differ"
    for name, value in right:
        if isinstance(value, Raised | compare.Other):
            yield f"note: the solution gives {compare.describe(value)} in the case '{name}'"
    if all(test.ok for test in compare.tests(right, results(one, one.stub), one.tolerance)):
        yield "the stub passes"
    wrong = {each.id: results(one, one.mistaken(each)) for each in one.mistakes}
    for name, got in wrong.items():
        if all(test.ok for test in compare.tests(right, got, one.tolerance)):
            yield f"the mistake '{name}' passes"
        elif (other := compare.recognise(right, got, wrong, one.tolerance)) != name:
            yield f"the mistake '{name}' gives the results of '{other}'"
        if all(isinstance(value, Raised) for _, value in got) and not all(
            isinstance(value, Raised) for _, value in right
        ):
            yield f"note: the mistake '{name}' gives {compare.describe(got[0][1])} in every case"
    for name in one.questions if questions else ():
        if name not in all_questions():
            yield f"there is no question '{name}'"


def main(names: list[str]) -> int:
    """Print what was found of the named exercises, by default all."""
    try:
        chosen = [read_exercise(Path(name)) if name.endswith(".md") else exercise(name) for name in names]
        chosen = chosen or list(exercises().values())
    except (ContentError, UnknownName, OSError) as error:
        print(error)
        return 1
    bad = False
    torch.set_num_threads(1)  # as the judge does
    for one in chosen:
        started = time.process_time()
        found = list(faults(one))
        wrong = [sentence for sentence in found if not sentence.startswith("note: ")]
        bad |= bool(wrong)
        head = f"{one.path}/{one.id}: {len(one.mistakes)} mistakes, {time.process_time() - started:.2f} s"
        print(
            head,
            "WRONG" if wrong else "right",
            *(f"  {sentence}" for sentence in found),
            sep="\n" if found else ": ",
        )
        if names:
            for code, shown in zip(one.examples, child.shown(one.solution, one.examples), strict=True):
                print(f"  >>> {code}\n  {shown}")
    print(f"{len(chosen)} exercises, {sum(len(one.mistakes) for one in chosen)} mistakes.")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
