"""Check the files of questions: ``python -m tools.check_questions``.

Prints each mistake with its file and line, and ends with status 1 if there is one.
"""

from __future__ import annotations

import sys

from peft_lab.core.content import ContentError
from peft_lab.interview.bank import all_questions, mistakes


def main() -> int:
    """Print the mistakes, or how many questions there are. A mistake in reading hides those after it."""
    try:
        found = mistakes()
    except ContentError as error:
        found = [error]
    print("\n".join(map(str, found)) or f"{len(all_questions())} questions, no mistake.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
