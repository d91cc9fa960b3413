"""Run every check that needs torch, on its first model, and keep what it finds:

python -m tools.refresh_claims
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from peft_lab.core.machine import describe_machine
from peft_lab.interview import claims
from peft_lab.interview.claims import all_claims

TARGET = Path(claims.__file__).with_name(claims.KEPT_FILE)


def main() -> None:
    found = {}
    for name, claim in all_claims().items():
        if claim.needs == "torch":
            found[name] = asdict(claim.on())
            print(f"{name}: {found[name]['verdict']}: {found[name]['found']}")
    here = describe_machine()
    content = {
        "packages": claims.kept_versions(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{here['cores']} cores of {here['processor']} ({here['system']}, Python {here['python']})",
        "found": found,
    }
    TARGET.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
