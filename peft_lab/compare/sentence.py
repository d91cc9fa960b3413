"""What a comparison can and cannot show, in plain sentences worked out from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab.compare.spread import FACTOR, Pair, sampling_error
from peft_lab.models.catalogue import model_title
from peft_lab.tasks.titles import each_of, task_title

MOST_NAMED = 6  # pairs named in a sentence; the rest is counted


def says(found: Mapping[str, Any], pairs: Sequence[Pair]) -> list[str]:
    """Sentences, most important first; none while no run is done."""
    scored = [row for row in found["rows"] if row["metric_values"]]
    if not scored:
        return []
    titles = {row["method"]: row["title"] for row in found["rows"]}
    return [
        *_verdict(pairs, titles, len(found["plan"]["seeds"]), scored),
        *_sample(scored, found["metric"], f"{each_of(found['plan']['task'])}s"),
        *_forgetting(scored),
        _limits(found),
        *_missing(found),
    ]


def _verdict(
    pairs: Sequence[Pair], titles: Mapping[str, str], seeds: int, scored: Sequence[Mapping[str, Any]]
) -> list[str]:
    if len(scored) < 2:
        return ["One method alone: there is nothing to compare with yet."]
    if not pairs:
        return [
            "With one seed the spread is unknown: no difference between these methods can be told from noise."
        ]
    apart = [pair for pair in pairs if pair.apart]
    noise = [pair for pair in pairs if not pair.apart]
    rule = (
        f"A difference between two methods counts if it is more than {FACTOR:g} times its own standard deviation "
        "over the seeds; anything smaller may be noise."
    )
    if not apart:
        return [
            rule,
            f"{_none_of(len(pairs))} by that much: this comparison cannot rank the methods.",
        ]
    summary = f"{len(apart)} of {len(pairs)} pairs differ{'s' if len(apart) == 1 else ''} by that much"
    if not noise:
        return (
            [rule, f"All {len(pairs)} pairs differ by that much."]
            if len(pairs) > 1
            else [rule, f"{_over(apart[0], titles)}."]
        )
    if len(noise) <= len(apart):
        named = _list([f"{titles[p.better]} and {titles[p.worse]}" for p in noise])
        return [rule, f"{summary}. Too close to tell apart: {named}."]
    return [rule, f"{summary}: {_list([_over(pair, titles) for pair in apart])}."]


def _none_of(pairs: int) -> str:
    return "The two do not differ" if pairs == 1 else f"None of the {pairs} pairs differs"


def _over(pair: Pair, titles: Mapping[str, str]) -> str:
    return f"{titles[pair.better]} beats {titles[pair.worse]} by {100 * pair.difference:.1f} points"


def _list(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return "; ".join(names[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _sample(scored: Sequence[Mapping[str, Any]], metric: Mapping[str, Any], named: str) -> list[str]:
    rows = metric["rows"]
    if not rows:
        return []
    error = max(sampling_error(row["metric_mean"], rows) for row in scored)
    return [
        f"All were scored on the same {rows:,} held-out {named}; on other {named} a score would differ by about "
        f"{100 * error:.1f} points (one standard error at most), which more seeds do not reduce."
    ]


def _forgetting(scored: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [row for row in scored if row["forgetting_change"] is not None]
    if not known:
        return []
    most = max(known, key=lambda row: row["forgetting_change"])
    return [
        f"The loss on unrelated text moved most with {most['title']}: {most['forgetting_change']:+.3f} nats per "
        "token (with the adapter in place; removing an adapter undoes it, full fine-tuning cannot be removed)."
    ]


def _limits(found: Mapping[str, Any]) -> str:
    plan = found["plan"]
    settings = "with its default settings" if not plan["values"] else "with one setting"
    return (
        f"Each method ran {settings}; the app's defaults were chosen by trying them on its own models and tasks. "
        f"{plan['steps']:,} step{'' if plan['steps'] == 1 else 's'} of {plan['batch']} {each_of(plan['task'])}s on "
        f"{model_title(plan['model'])} and {task_title(plan['task'])} say nothing about other models, tasks, "
        "or longer training."
    )


def _missing(found: Mapping[str, Any]) -> list[str]:
    if found["done"] == found["total"]:
        return []
    left = found["total"] - found["done"]
    verb = "is" if left == 1 else "are"
    return [f"{left} of {found['total']} runs {verb} not done, so some means are over fewer seeds."]
