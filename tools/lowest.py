"""Print constraints that hold every package of requirements.txt at its lowest allowed release.

    python -m tools.lowest > lowest.txt && pip install -r requirements.txt -c lowest.txt

``make ends`` installs these and, in a second environment, the newest that the ranges allow, and runs the tests that
meet the libraries most closely in both.
"""

from __future__ import annotations

import re

from peft_lab.doctor import requirements


def lowest(wanted: str) -> str:
    """The lowest release that a range allows, its bug fixes included: ``>=1.10,<2`` is ``~=1.10.0``.

    Raises:
        ValueError: a range without a lower end.
    """
    found = re.match(r">=([0-9.]+)", wanted)
    if found is None:
        raise ValueError(f"'{wanted}' has no lower end")
    parts = found[1].split(".")
    return f"~={'.'.join([*parts, *['0'] * (3 - len(parts))])}"


def main() -> None:
    for name, wanted in requirements().items():
        print(f"{name}{lowest(wanted)}")


if __name__ == "__main__":
    main()
