"""``python -m peft_lab`` and ``peft-lab``: the app without the browser. See :mod:`peft_lab.cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it in one line from the first moment: to import the commands takes seconds."""
    try:
        from peft_lab.cli import main as run

        run()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)  # as application.INTERRUPTED, which may not be there yet


if __name__ == "__main__":
    main()
