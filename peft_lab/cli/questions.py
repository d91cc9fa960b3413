"""``questions``: the interview bank with its answers, computed for a model of choice."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.interview.bank import get_question, select
from peft_lab.interview.question import FollowUp, Opens, Question, topics
from peft_lab.models import images
from peft_lab.models.catalogue import resolve


@command("questions")
def questions_command(
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic", metavar="TOPIC", help="A method's slug or another topic; repeat it or use commas."
        ),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option("--level", metavar="LEVEL", help="basic, medium or hard; repeatable.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Ask about this model wherever a question fits it."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Interview questions with answers. Answers that can be computed are computed now."""
    if model is not None:
        images.require_text(resolve(model).shape, "Practice")
    chosen = select(options.split_slugs(topic or ()), options.split_slugs(level or ()))
    rows = [_row(question, model) for question in chosen]

    def human() -> list[Any]:
        lines = [(row["topic"], row["level"], row["question"], row["answer"]) for row in rows]
        columns = dict.fromkeys(("topic", "level", "question", "answer"), "left")
        computed = sum(row["computed"] for row in rows)
        return [
            output.table("Questions", columns, lines, f"{len(rows)} questions, {computed} answers computed")
        ]

    output.show(rows, as_json, human=human)


def _row(question: Question, model: str | None) -> dict[str, Any]:
    own = model if model is not None and question.accepts(model) else None
    answer = question.compute(own)
    asked = question.ask(own)
    if question.options:
        letters = (f"{chr(ord('a') + index)}) {text}" for index, text in enumerate(question.choices(own)))
        asked = f"{asked} {' '.join(letters)}"
    return {
        "id": question.id,
        "topic": question.topic,
        "topic_title": topics().get(question.topic, question.topic),
        "level": question.level,
        "kind": question.kind,
        "model": (own or question.model) if question.model else None,
        "question": asked,
        "computed": question.computed,
        "answer": question.explain(answer, own),
        "value": None if answer is None or question.kind == "choice" else answer.value,
        "unit": None if answer is None or question.kind == "choice" else answer.unit,
        "working": [] if answer is None else list(answer.working),
        "near_misses": []
        if answer is None
        else [{"value": m.value, "forgot": m.forgot} for m in answer.near_misses],
        "listen_for": list(question.listen_for),
        "wrong": list(question.wrong),
        "follow_ups": [_follow_up(question, each, own) for each in question.follow_ups],
        "because": [option.thought for option in question.options] if question.explained else [],
        "defend": _defend(question, own),
        "sources": list(question.sources),
    }


def _follow_up(question: Question, follow_up: FollowUp, model: str | None) -> dict[str, Any]:
    asked, answer = question.explain_follow_up(follow_up, model)
    row: dict[str, Any] = {"question": asked, "sources": list(follow_up.sources)}
    if follow_up.leads_to:
        return row | {
            "question_id": follow_up.leads_to,
            "sources": list(get_question(follow_up.leads_to).sources),
        }
    return row | {"answer": answer, "opens": _opens(follow_up.opens)}


def _defend(question: Question, model: str | None) -> dict[str, Any] | None:
    doubt = question.doubt
    if doubt is None:
        return None
    said, objection, because = question.explain_doubt(doubt, model)
    return {
        "said": said,
        "doubt": objection,
        "holds": doubt.holds,
        "because": because,
        "sources": list(doubt.sources),
        "opens": _opens(doubt.opens),
    }


def _opens(opens: Opens | None) -> dict[str, Any] | None:
    return None if opens is None else {"page": opens.page, "settings": dict(opens.values)}
