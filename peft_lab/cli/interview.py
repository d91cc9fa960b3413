"""``questions``, ``claims`` and ``diagnose``: the interview bank, claims with their verdicts, and the clinic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import option
from peft_lab.core import disk
from peft_lab.core.errors import BadInput
from peft_lab.interview import claims as kept
from peft_lab.interview.bank import get_question, select
from peft_lab.interview.claims import Claim, all_claims, get_claim, on_all, overall
from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.diagnose import Diagnosis, as_rows, in_words
from peft_lab.interview.clinic.diagnose import diagnose as diagnose_material
from peft_lab.interview.question import FollowUp, Opens, Question, topics
from peft_lab.models import images
from peft_lab.models.catalogue import resolve
from peft_lab.takeaway.ship.adapter import LARGEST_TEXT, of_folder


@command("questions")
def questions(
    topic: Annotated[
        list[str] | None,
        option(
            "--topic",
            "TOPIC",
            "A method's slug or another topic. Repeat the option or separate topics with commas.",
        ),
    ] = None,
    level: Annotated[
        list[str] | None, option("--level", "LEVEL", "basic, medium or hard; repeatable.")
    ] = None,
    model: Annotated[
        str | None, option("--model -m", "NAME", "Use this model in every question that applies to it.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List interview questions with answers, computed where possible."""
    if model is not None:
        images.require_text(resolve(model).shape, "Practice")
    chosen = select(options.split_slugs(topic or ()), options.split_slugs(level or ()))
    rows = [_question(question, model) for question in chosen]
    caption = f"{len(rows)} questions, {sum(row['computed'] for row in rows)} answers computed"
    columns = {name: name for name in ("topic", "level", "question", "answer")}
    output.show(rows, as_json, human=lambda: [output.table("Questions", rows, columns, caption)])


def _question(question: Question, model: str | None) -> dict[str, Any]:
    own = model if model is not None and question.accepts(model) else None
    answer = question.compute(own)
    text = question.ask(own)
    if question.options:
        letters = (f"{chr(ord('a') + index)}) {text}" for index, text in enumerate(question.choices(own)))
        text = f"{text} {' '.join(letters)}"
    number = None if question.kind == "choice" else answer
    misses = () if answer is None else answer.near_misses
    return {
        **output.attributes(question, "id", "topic"),
        "topic_title": topics().get(question.topic, question.topic),
        **output.attributes(question, "level", "kind"),
        "model": (own or question.model) if question.model else None,
        "question": text,
        "computed": question.computed,
        "answer": question.explain(answer, own),
        "value": number and number.value,
        "unit": number and number.unit,
        "working": [] if answer is None else answer.working,
        "near_misses": [output.attributes(miss, "value", "forgot") for miss in misses],
        **output.attributes(question, "listen_for", "wrong"),
        "follow_ups": [_follow_up(question, link, own) for link in question.follow_ups],
        "because": [choice.thought for choice in question.options] if question.explained else [],
        "defend": _defend(question, own),
        "sources": question.sources,
    }


def _follow_up(question: Question, follow_up: FollowUp, model: str | None) -> dict[str, Any]:
    text, answer = question.explain_follow_up(follow_up, model)
    if follow_up.leads_to:
        sources = get_question(follow_up.leads_to).sources
        return {"question": text, "sources": sources, "question_id": follow_up.leads_to}
    sources, opens = follow_up.sources, _opens(follow_up.opens)
    return {"question": text, "sources": sources, "answer": answer, "opens": opens}


def _defend(question: Question, model: str | None) -> dict[str, Any] | None:
    doubt = question.doubt
    if doubt is None:
        return None
    answer, objection, because = question.explain_doubt(doubt, model)
    return {
        "said": answer,
        "doubt": objection,
        "holds": doubt.holds,
        "because": because,
        "sources": doubt.sources,
        "opens": _opens(doubt.opens),
    }


def _opens(opens: Opens | None) -> dict[str, Any] | None:
    return None if opens is None else {"page": opens.page, "settings": opens.values}


@command("claims")
def claims(
    claim: Annotated[
        list[str] | None,
        option("--claim", "ID", "A claim's id. Repeat the option or separate ids with commas."),
    ] = None,
    model: Annotated[
        str | None, option("--model -m", "NAME", "Use this model to check every claim that applies to it.")
    ] = None,
    run: Annotated[
        bool,
        option("--run", None, "Run the simulations and experiments instead of showing stored results."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List claims about PEFT, each with its quote, the result of the check, and the verdict."""
    if model is not None:
        images.require_text(resolve(model).shape, "the check of claims")
    named = [get_claim(name) for name in options.split_slugs(claim or ())]
    rows = [_claim(one, model, run, bool(named)) for one in named or all_claims().values()]
    verdicts = [row["verdict"] for row in rows]
    tally = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("right", "imprecise", "wrong"))
    caption = f"{len(rows)} claims: {tally}"
    if any(row["kept"] for row in rows):
        caption += f"\nStored results of {kept.result_seconds()}; --run repeats them."
    columns: dict[str, output.Column] = {
        "claim": "claim",
        "found": lambda row: f"{row['found']}. {row['cited']}".strip(" ."),
        "verdict": "verdict",
        "source": lambda row: f"{row['source']}, cited" if row["cited"] else row["source"],
    }
    output.show(rows, as_json, human=lambda: [output.table("Claims", rows, columns, caption)])


def _claim(claim: Claim, model: str | None, run: bool, named: bool) -> dict[str, Any]:
    """Return one claim as a row of the document. With ``model``, the verdict is about that model alone."""
    on = model if model is not None and claim.model is not None and claim.fits(resolve(model).shape) else None
    if model is not None and on is None and named:
        raise BadInput(
            f"'{claim.id}' cannot be checked on {resolve(model).shape.title}"
            + (f"; try {', '.join(claim.models())}." if claim.model else ": it concerns no model."),
            "model",
        )
    here, was_kept = (claim.on(on), False) if run else kept.is_settled(claim.id, on)
    result = here if on is not None else overall(claim, here)
    return {
        **output.attributes(claim, "id", "claim"),
        "stated": claim.quote,
        **output.attributes(result, "found", "verdict"),
        "source": str(claim.source),
        "how": claim.how,
        "why": result.why,
        **output.attributes(claim, "origin", "topic"),
        "model": None if claim.model is None else on or claim.model,
        "on_this_model": here.verdict,
        "on_models": {name: one.verdict for name, one in on_all(claim.id).items()},
        **output.attributes(result, "values", "cited"),
        "kept": was_kept,
        "kept_from": str(kept.result_seconds()) if was_kept else None,
    }


@command("diagnose")
def diagnose(
    config: Annotated[
        list[Path] | None,
        option("--config", "FILE", "adapter_config.json or the training arguments as JSON; repeatable."),
    ] = None,
    log: Annotated[
        list[Path] | None,
        option(
            "--log",
            "FILE",
            "trainer_state.json, JSON Lines, CSV with a 'loss' column, or the console output; repeatable.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, option("--adapter", "DIR", "The adapter's folder; only safetensors files are read.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Rank the likely causes of a failed fine-tuning run, with evidence and fixes."""
    if not (config or log or adapter):
        raise BadInput("There is nothing to diagnose. Give --config, --log or --adapter.")
    material = reading.Material()
    for file in config or ():
        material = reading.with_config(material, file.name, disk.take(file, LARGEST_TEXT, "config"))
    for file in log or ():
        material = reading.with_log(material, file.name, disk.take(file, LARGEST_TEXT, "log"))
    if adapter is not None:
        material = reading.with_adapter(material, of_folder(adapter))
    diagnosis = diagnose_material(material)
    output.note(diagnosis.verdict)
    output.show(as_rows(diagnosis.suspicions), as_json, human=lambda: _suspicions(diagnosis))


def _suspicions(diagnosis: Diagnosis) -> list[Any]:
    if not diagnosis.suspicions:
        return [diagnosis.verdict]
    parts: list[Any] = [] if diagnosis.found else [diagnosis.verdict, "Less likely causes:"]
    parts.append(
        "The figure before each fault is the sum of the weights of its evidence. These weights were set by hand."
    )
    for one in diagnosis.suspicions:
        parts.append(f"{one.probability:.2f}  {one.fault.title} ({one.fault.name})")
        parts.append(f"      {in_words(one.probability)}")
        parts += [f"      seen: {text}" for text in one.evidence]
        parts += [f"      fix:  {one.fault.fix}", f"      see:  {one.fault.reference.title}"]
        parts.append(f"            {one.fault.reference.url}")
    return parts
