"""``doctor``: the machine's properties, and checks that everything works on it."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import option
from peft_lab.core import disk, machine, units
from peft_lab.core.later import torch
from peft_lab.engine.timing import here
from peft_lab.engine.timing.estimate import MEANINGS
from peft_lab.models.assets import store as assets
from peft_lab.runs import waiting

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
#: full fine-tuning holds every weight four times before activations: itself, its gradient, AdamW's two moments
COPIES = 4

Check = dict[str, Any]


def examine(verify: bool = False) -> dict[str, Any]:
    """Examine this machine. Loads torch (a second or more), so keep it out of the web server's process.

    ``verify``: hash every byte of weights and data; otherwise only their presence is checked.

    Keys: python, packages {name: version or None}, device, cpu_features, memory (bytes), assets, and checks,
    a list of {name, ok, detail}. A check that fails is reported, never raised.
    """
    python, packages = platform.python_version(), dict.fromkeys(requirements())
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    total = machine.installed_memory()
    memory = {
        "total_bytes": min(total, machine.memory_limit() or total), "available_bytes": machine.free_memory()
    }  # fmt: skip
    missing = {"kind": "unknown", "name": "torch is not installed"}
    device = machine.in_use().describe() if packages.get("torch") else missing
    features = machine.cpu_features()
    fetched = assets.status(verify)
    checks = [
        _check("Python", lambda: (sys.version_info >= (3, 11), f"{python}; 3.11 or newer is needed")),
        _check("Packages", lambda: _packages_check(packages)),
        _check("Folder for weights, data and runs", _home_check),
        _check("Memory", lambda: _memory_check(memory)),
        _check("bfloat16", lambda: _bfloat16(device, features)),
        _check("4-bit quantisation", _quantise),
        *(_check(asset.title, partial(_asset_check, asset, verify)) for asset in fetched),
    ]
    return {
        "python": {
            "version": python,
            "executable": sys.executable,
            "platform": platform.platform(),
        },
        "packages": packages,
        "device": device,
        "cpu_features": features,
        "memory": memory,
        "assets": [asdict(asset) | {"path": str(asset.path)} for asset in fetched],
        "checks": checks,
    }


def requirements() -> dict[str, str]:
    """Return the packages that the app needs here with their versions: {"torch": ">=2.9,<3", ...}. They come from
    requirements.txt or, if the app is installed without its checkout, from its metadata."""
    from packaging.requirements import Requirement

    if REQUIREMENTS.is_file():
        stated = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    else:
        # what an extra such as [cluster] adds, the app itself does not need
        stated = [line for line in metadata.requires("peft-lab") or [] if "extra ==" not in line]
    lines = (line.split("#")[0].strip() for line in stated)
    here = (
        line for line in lines if line and ((marker := Requirement(line).marker) is None or marker.evaluate())
    )
    matches = (re.fullmatch(r"([A-Za-z0-9._-]+)([^;]*)(;.*)?", line) for line in here)
    return {match[1]: match[2].strip() for match in matches if match}


def _check(name: str, look: Callable[[], tuple[bool, str]]) -> Check:
    """Run a check; an exception counts as a failure and becomes its detail."""
    try:
        ok, detail = look()
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as trouble:
        ok, detail = False, f"{type(trouble).__name__}: {trouble}"
    return {"name": name, "ok": ok, "detail": detail}


def _packages_check(packages: Mapping[str, str | None]) -> tuple[bool, str]:
    from packaging.specifiers import SpecifierSet

    wrong = []
    for name, wanted in requirements().items():
        version = packages[name]
        if version is None:
            wrong.append(f"{name} is missing")
        elif not SpecifierSet(wanted).contains(version, prereleases=True):
            wrong.append(f"{name} is {version}, but {wanted} is needed")
    if wrong:
        return False, f"{'; '.join(wrong)}: run 'pip install -r requirements.txt'"
    return True, f"all {len(packages)} installed"


def _home_check() -> tuple[bool, str]:
    home = disk.home()
    standing = next(folder for folder in (home, *home.parents) if folder.exists())
    if not (standing.is_dir() and os.access(standing, os.W_OK)):
        return False, f"PEFT Lab cannot write to {home}"
    return True, f"{home}, {units.size(shutil.disk_usage(standing).free)} free"


def _memory_check(memory: Mapping[str, int]) -> tuple[bool, str]:
    free = memory["available_bytes"]
    needed = COPIES * max(asset.bytes for asset in assets.status())
    detail = f"{units.size(free)} of {units.size(memory['total_bytes'])} free"
    if free < needed:
        detail += (
            f"; full fine-tuning of the largest model that PEFT Lab downloads needs {units.size(needed)} without "
            "activations"
        )
    return free >= needed, detail


def _bfloat16(device: dict[str, Any], features: list[str]) -> tuple[bool, str]:
    """Return ok, and whether :func:`peft_lab.models.loading.load_base` will use bfloat16, as a sentence."""
    native = machine.in_use().computes_bfloat16()
    name = "this processor" if device["kind"] == "cpu" else device["name"]
    if not native:
        return True, f"not supported by {name}: runs use float32, which needs more memory"
    listed = sorted(machine.BF16_FEATURES & set(features))
    return True, f"supported by {name}" + (f" ({', '.join(listed)})" if device["kind"] == "cpu" else "")


def _quantise() -> tuple[bool, str]:
    """Quantise normal numbers to NF4 and back on the training device; a wrong error means a broken build."""
    device = machine.in_use()
    problem = device.quantisation_problem()
    if problem is not None:
        return False, problem

    # at import it warns that an optional package of kernels is missing, which costs nothing but speed
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from bitsandbytes import functional

    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).to(device.kind)
    packed, state = functional.quantize_4bit(weight, quant_type="nf4")
    back = functional.dequantize_4bit(packed, state)
    error = float((back - weight).norm() / weight.norm())
    return 0.05 < error < 0.15, f"NF4 stores normal weights with a relative error of {error:.3f}"


def _asset_check(asset: assets.AssetStatus, verified: bool) -> tuple[bool, str]:
    remedy = f"run 'python -m peft_lab fetch {asset.name}' ({units.size(asset.download_bytes)})"
    if asset.damaged:
        detail = f"damaged: {', '.join(asset.damaged)} has changed since the download: {remedy}"
    elif not asset.present:
        detail = f"not downloaded: {remedy}"
    else:
        detail = f"{'every byte verified' if verified else 'present'}: {asset.path}"
    return asset.present, detail


@command("doctor")
def doctor_command(
    verify: Annotated[
        bool, option("--verify", None, "Also hash all weights and data to find damaged files.")
    ] = False,
    calibrate: Annotated[
        bool,
        option("--calibrate", None, "Measure this processor's speed, to estimate training times."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check this machine: packages, device, memory and weights. A failed check says what to do."""
    if calibrate:
        waiting.begin_calibrating().result()
    report = {**examine(verify), "speed": here.known()}
    output.show(report, as_json, human=lambda: _human(report))


def _human(report: dict[str, Any]) -> list[Any]:
    python = report["python"]
    facts = [
        ("Python", f"{python['version']} on {python['platform']}"),
        ("Device", " ".join(f"{key} {value}" for key, value in report["device"].items())),
        ("Processor features", ", ".join(report["cpu_features"]) or "not listed by this system"),
        *((name, version or "missing") for name, version in report["packages"].items()),
        *_speeds(report["speed"]),
    ]
    columns: dict[str, output.Column] = {
        "": lambda check: "ok" if check["ok"] else "NOT OK", "check": "name", "detail": "detail"
    }  # fmt: skip
    return [
        output.table("This machine (measured)", facts, ("what", "found")),
        output.table("Checks", report["checks"], columns),
    ]


def _speeds(known: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the measured speeds of the processor, one line per figure."""
    if known is None:
        return [("Speed", "not measured; run with --calibrate")]
    return [
        (MEANINGS[name].capitalize(), f"{value:.4g} (measured {known['measured']})")
        for name, value in known["constants"].items()
        if value
    ]
