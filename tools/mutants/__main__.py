"""``python -m tools.mutants``: a sample of every package, what survived, and the rates."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.mutants.changes import mutants_of
from tools.mutants.trying import LOADED, ROOT, Package, copy_of_tree, try_all

SETTINGS = Path(__file__).with_name("settings.toml")


def main() -> int:
    asked = _arguments()
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    packages = [package for package in _packages(settings) if not asked.only or package.name in asked.only]
    if len(packages) < len(set(asked.only)):
        raise SystemExit(f"The packages are {', '.join(settings['packages'])}.")
    ignored = {(entry["module"], entry["before"], entry["after"]) for entry in settings.get("same", ())}
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["PEFT_LAB_EXAMPLES"] = "12"  # of the contract tests; what a change breaks, few break too
    os.environ.setdefault("PEFT_LAB_HOME", str(_home()))
    for name in LOADED:
        __import__(name)
    rates = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = copy_of_tree(Path(folder))
        for package in packages:
            found = [each for module in package.modules for each in mutants_of(tree, module)]
            wanted = [each for each in found if (each.module, each.before, each.after) not in ignored]
            chosen = random.Random(f"{asked.seed} {package.name}").sample(
                wanted, min(asked.sample, len(wanted))
            )
            survived = try_all(tree, package, sorted(chosen, key=lambda each: (each.module, each.line)))
            killed = len(chosen) - len(survived)
            rates.append(
                f"{package.name}: {killed} of {len(chosen)} killed ({killed / max(1, len(chosen)):.0%}); "
                f"{len(wanted):,} possible, {len(found) - len(wanted)} more make no difference"
            )
            print(f"== {rates[-1]}", flush=True)
    print("\n".join(["", f"seed {asked.seed}, at most {asked.sample} a package", *rates]))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="names of packages; all without")
    parser.add_argument("--sample", type=int, default=100, help="mutants of a package, at most")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _packages(settings: Mapping[str, Any]) -> Iterator[Package]:
    for name, settled in settings["packages"].items():
        files = [file for pattern in settled["modules"] for file in sorted(ROOT.glob(pattern))]
        own = {module: tuple(tests) for module, tests in settled.get("own", {}).items()}
        modules = tuple(file.relative_to(ROOT).as_posix() for file in files)
        yield Package(name, modules, tuple(settled["tests"]), own)


def _home() -> Path:
    """The lab folder with the real weights; named outright, as the forked processes change their folder."""
    from platformdirs import user_data_path

    return user_data_path("peft-lab", appauthor=False)


if __name__ == "__main__":
    sys.exit(main())
