"""``claims``: what is said about PEFT, what is found, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.core.errors import BadInput
from peft_lab.interview.claims import all_claims, get_claim, kept, on_all, overall
from peft_lab.interview.claims.base import Claim, Found
from peft_lab.models import images
from peft_lab.models.catalogue import resolve


@command("claims")
def claims_command(
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", metavar="ID", help="One claim by its id; repeat it or use commas."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Check on this model wherever a claim can be."),
    ] = None,
    run: Annotated[
        bool,
        typer.Option("--run", help="Run simulations and experiments again instead of reading what is kept."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Claims about PEFT, each with what it says, what is found by code, and the verdict."""
    if model is not None:
        images.require_text(resolve(model).shape, "Fact check")
    named = [get_claim(name) for name in options.split_slugs(claim or ())]
    rows = [_row(each, model, run, bool(named)) for each in named or all_claims().values()]

    def human() -> list[Any]:
        columns = dict.fromkeys(("claim", "found", "verdict", "source"), "left")
        lines = [
            (row["claim"], f"{row['found']}. {row['cited']}".strip(" ."), row["verdict"], _sources(row))
            for row in rows
        ]
        tally = ", ".join(
            f"{sum(row['verdict'] == verdict for row in rows)} {verdict}"
            for verdict in ("right", "imprecise", "wrong")
        )
        old = (
            f"\nKept from a run of {kept.result_seconds()}; --run repeats it."
            if any(row["kept"] for row in rows)
            else ""
        )
        return [output.table("Claims", columns, lines, f"{len(rows)} claims: {tally}{old}")]

    output.show(rows, as_json, human=human)


def _sources(row: Mapping[str, Any]) -> str:
    """Where the figures of a line come from."""
    return f"{row['source']}, cited" if row["cited"] else str(row["source"])


def _row(claim: Claim, model: str | None, run: bool, named: bool) -> dict[str, Any]:
    """One claim as the contract has it. With ``model``, the verdict is about that model alone."""
    on = model if model is not None and claim.model is not None and claim.fits(resolve(model).shape) else None
    if model is not None and on is None and named:
        raise BadInput(
            f"'{claim.id}' cannot be checked on {resolve(model).shape.title}"
            + (f"; try {', '.join(claim.models())}." if claim.model else ": it is about no model."),
            "model",
        )
    here, was_kept = (claim.on(on), False) if run else kept.is_settled(claim.id, on)
    found: Found = here if on is not None else overall(claim, here)
    return {
        "id": claim.id,
        "claim": claim.claim,
        "stated": claim.quote,
        "found": found.found,
        "verdict": found.verdict,
        "source": str(claim.source),
        "how": claim.how,
        "why": found.why,
        "origin": claim.origin,
        "topic": claim.topic,
        "model": None if claim.model is None else on or claim.model,
        "on_this_model": here.verdict,
        "on_models": {name: each.verdict for name, each in on_all(claim.id).items()},
        "values": found.values,
        "cited": found.cited,
        "kept": was_kept,
        "kept_from": str(kept.result_seconds()) if was_kept else None,
    }
