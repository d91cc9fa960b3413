"""What stands on a page and which badge is beside it, read off an app that ran without a browser.

A figure is text with a digit in it. Not every digit is a figure that the app found: names, settings, questions and
their own numbers, quotations and references are told apart here, each with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from streamlit.testing.v1 import AppTest

from peft_lab.advise.words import OWN_LIMIT
from peft_lab.core.units import Source
from peft_lab.engine.devices import devices
from peft_lab.interview.bank import all_questions
from peft_lab.interview.claims import all_claims
from peft_lab.interview.predictions import all_predictions
from peft_lab.interview.question import LEVELS, topics
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue
from peft_lab.studies.experiments import all_experiments
from peft_lab.training.tasks import all_tasks
from peft_lab.ui.foreign import plain

#: A badge, in text and in a table's head; a column whose head is the source in words says the same.
BADGE = re.compile(
    "|".join(rf"-badge\[{source}\]|source {source}|>{source.capitalize()}</th>" for source in Source)
)
_FOUND = re.compile("|".join(rf"-badge\[({source})\]|source ({source})\\?\"" for source in Source))
# What a person said or set, what was said by others, and who they are: no figures that the page found.
YOURS = (
    ":gray-badge[you]",
    "**Your situation:**",
    "Your guess: ",
    OWN_LIMIT,
    " of them already done",
    "Setting</th>",
    "as a link](",
    "Usable on ",  # a device's memory, with its source in words
    "Searched on ",
    "The task head starts at random; its",  # a setting
    ":red[:material/error:",  # a setting that cannot work, with what it was set to
    " in this selection",  # how many cards were asked for
    " exercises written",  # by the learner
    "write-shapes",  # what an exercise asks for
    'class=\\"explained\\"',  # a method's own words, with the glossary's beside them
    'class=\\"bench-set\\"',  # settings
    'class=\\"myths-bar\\"',  # how many claims a person judged rightly
    " steps each]",  # an experiment's arms before they have run: settings
)
LISTED = re.compile(
    r":small\[\d+ things people say|\*\*\d+\*\* of \d+ judged|\d+ runs of \d+ steps|\d+ lines: |"
    r"### A lesson of your own|\w+\.py, \d+ lines of torch|:small\[Exercise \d+ of \d+ ·|:gray-badge\[\d+ of \d+\] \*\*"
)  # how much there is or was asked for; a place in a chain, with its question
QUOTED = (
    *(f":small[{topic}" for topic in topics().values()),
    ":small[Method:",
    ":small[Stored result",
    ":small[[PEFT library",
)
#: A question has givens of its own, and a wrong answer's figures are wrong on purpose.
ASKED = tuple(f":gray-badge[{level}]" for level in LEVELS)
WRONG = ": forgets "
REFERENCE = re.compile(r"(?:- )?[\w.,&’' -]+ (?:19|20)\d\d\b|(?:- )?run with torch")
NAMES = re.compile(
    "|".join(
        [
            *(re.escape(entry.title) for entry in catalogue().values()),
            *(re.escape(name) for name in catalogue()),
            *(re.escape(device.title) for device in devices().values()),
            *(re.escape(device.holding) for device in devices().values()),
            r"<h\d|#{1,6} |\bv2\b|tabindex=\S+|learn visibly within \d+ steps|0% |\$[^$]*\$|`[^`]*`",
        ]
    )
)


def text_of(element: Any) -> str:
    """What a reader sees of an element; all of it for a table and a chart."""
    if element.type in ("markdown", "caption", "text"):
        return str(element.value)
    if element.type == "metric":
        return f"{element.value} {element.delta}"
    if element.type in ("html", "plotly_chart"):
        return str(element.proto)
    return ""


def _alone(child: Any) -> Any:
    """The chart or table in a container that keeps its room and holds nothing else; any other child as it is."""
    inside = list(getattr(child, "children", {}).values())
    return (
        inside[0]
        if len(inside) == 1 and getattr(inside[0], "type", "") in ("plotly_chart", "html")
        else child
    )


def blocks(block: Any) -> Iterator[list[str]]:
    """The texts of each block, in reading order."""
    inside = [_alone(child) for child in block.children.values()]
    yield [text for child in inside if not hasattr(child, "children") and (text := text_of(child))]
    for child in inside:
        if hasattr(child, "children"):
            yield from blocks(child)


def _described() -> set[str]:
    """What methods, tasks, questions and beliefs say themselves: nothing that the page found."""
    texts = {method.summary for method in all_methods().values()}
    for question in all_questions().values():
        lists = (question.listen_for, question.wrong, question.sources)
        texts |= {question.ask(), *("\n".join(f"- {line}" for line in lines) for lines in lists)}
    knobs = [knob for method in all_methods().values() for knob in method.knobs]
    texts |= {plain(knob.brief(value)) for knob in knobs for value in (knob.default, *knob.choices)}
    texts |= {f"## {plain(claim.claim)}" for claim in all_claims().values()}  # what others say
    texts |= {prediction.question for prediction in all_predictions().values()}
    texts |= {experiment.question for experiment in all_experiments()}
    for task in all_tasks():
        scored = f"**Measured by** {task.metric.replace('_', ' ')}: {task.metric_help}"
        texts |= {task.description, f"{task.source} · {task.license}", scored}
    return texts


def without_badge(app: AppTest) -> tuple[int, list[str]]:
    """How many figures the page shows, and those that have no badge of a source beside them."""
    seen, without, described = 0, [], _described()
    for texts in blocks(app.main):
        for place, text in enumerate(texts):
            if not re.search(r"\d", NAMES.sub("", text)) or any(words in text for words in YOURS):
                continue
            if text in described or text.startswith((*QUOTED, *ASKED)) or LISTED.match(text):
                continue
            if (
                WRONG in text
                or REFERENCE.match(text)
                or (place and any(level in texts[place - 1] for level in ASKED))
            ):
                continue
            seen += 1
            # a line may stand between a heading and its chart
            before = 1 if BADGE.search(texts[place - 1]) else 2
            if not any(BADGE.search(near) for near in texts[max(0, place - before) : place + 2]):
                without.append(text[:300])
    return seen, without


def sources(app: AppTest) -> set[str]:
    """Every source that the page names in a badge."""
    found = _FOUND.findall("\n".join(text for texts in blocks(app.main) for text in texts))
    return {name for names in found for name in names if name}


def cards(app: AppTest) -> dict[str, tuple[str, str]]:
    """Each headline card that has a figure: its label, with the figure and the badge under it."""
    found = {}

    def walk(block: Any) -> None:
        inside = list(block.children.values())
        for child, following in zip(inside, [*inside[1:], None], strict=False):
            if getattr(child, "type", "") == "metric" and child.value != "–":
                badge = _FOUND.search(text_of(following)) if following is not None else None
                found[child.label] = (str(child.value), next(filter(None, badge.groups())) if badge else "")
            if hasattr(child, "children"):
                walk(child)

    walk(app.main)
    return found
