"""Myths: a guess and how sure one is, then the verdict, the reason and the experiment; the list of all claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import streamlit as st

from peft_lab.core import asking
from peft_lab.core.errors import BadInput
from peft_lab.core.form import Form, choice, text
from peft_lab.interview.claims import Claim, all_claims
from peft_lab.interview.claims.verdicts import VERDICTS
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.storage import Result
from peft_lab.interview.predictions import Prediction, PredictionOutcome, all_predictions, stored
from peft_lab.interview.question import topics
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import errors_boxed
from peft_lab.ui.components.rows import Column, RowOf, just_chosen, rows
from peft_lab.ui.foreign import plain
from peft_lab.ui.myths import checked, predicted
from peft_lab.ui.myths.predicted import Guess
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.cards import interview_date
from peft_lab.ui.practice.mock import page_links

SCOPE = "myths"
KIND = "claim"  # of a learner's stored result
LIST = "myths-list"
#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
MYTHS_CSS = web.read("myths.css")
SURE, CLOSE = 70, 10  # percent: from where on a guess counts as sure; within which guesses are equally sure
# scopes: claims whose verdict was asked for without a guess, and those that are guessed again
_SHOWN, _AGAIN = "myths-shown", "myths-again"


@dataclass(frozen=True)
class Myth:
    """Something people say: a claim that code checks, or a belief that an experiment tests."""

    about: Claim | Prediction

    @property
    def says(self) -> str:
        return self.about.claim if isinstance(self.about, Claim) else self.about.belief

    @property
    def options(self) -> tuple[str, ...]:
        """Return what can be guessed."""
        return VERDICTS if isinstance(self.about, Claim) else self.about.options

    @property
    def origin(self) -> str:
        return self.about.origin if isinstance(self.about, Claim) else "experiment"


@cache
def all_myths() -> dict[str, Myth]:
    """Return every claim and belief by id."""
    return {name: Myth(about) for name, about in (all_claims() | all_predictions()).items()}


@dataclass(frozen=True)
class Judged:
    """A learner's latest guess about a myth; ``sure`` in percent, None for one of an earlier version."""

    guess: str
    truth: str
    correct: bool
    sure: int | None
    at: datetime


def judged(file: Learners, name: str) -> dict[str, Judged]:
    """Return the learner's latest guess about every myth they judged."""
    fields = {"id": str, "guess": int, "right": int, "correct": bool}
    stored_results = [one for kind in (KIND, predicted.KIND) for one in file.results(name, kind, fields)]
    found = {}
    for result in stored_results:
        content, myth = result.content, all_myths().get(result.content["id"])
        if myth is None or not all(0 <= content[one] < len(myth.options) for one in ("guess", "right")):
            continue
        guess, truth = (myth.options[content[one]] for one in ("guess", "right"))
        sure = content.get("sure") if type(content.get("sure")) is int else None
        found[content["id"]] = Judged(guess, truth, content["correct"], sure, result.at)
    return found


ALL, OWN = "all", "own"  # no filter; each claim's own model


@dataclass(frozen=True)
class MythForm(Form):
    """The filters of the list, and the current claim."""

    find: str = text("", "Search", "")
    topic: str = choice(
        ALL, "Topic", "",
        lambda: {ALL: "All topics"} | {one.about.topic: topics()[one.about.topic] for one in all_myths().values()},
    )  # fmt: skip
    origin: str = choice(
        ALL, "Source", "",
        {ALL: "All", "text": "A widely read answer", "saying": "Common saying", "experiment": "Predict an experiment"},
    )  # fmt: skip
    verdict: str = choice(
        ALL, "Verdict", "", {ALL: "All verdicts"} | {verdict: verdict.capitalize() for verdict in VERDICTS}
    )  # fmt: skip
    model: str = choice(
        OWN, "Check on", "",
        lambda: {OWN: "Each claim's own model"} | {name: one.title for name, one in readers_of_text().items()},
    )  # fmt: skip
    claim: str = choice(
        "", "Claim", "", lambda: {"": ""} | {name: one.says for name, one in all_myths().items()}
    )

    @property
    def checked_on(self) -> str | None:
        """Return the chosen model; ``None`` for each claim's own."""
        return None if self.model == OWN else self.model

    def select(self) -> list[str]:
        """Return the ids of the myths that match the filters; with a model, only those that can be checked on it."""
        return [name for name, myth in all_myths().items() if self._takes(myth)]

    def _takes(self, myth: Myth) -> bool:
        about = myth.about
        if self.origin not in (ALL, myth.origin) or self.topic not in (ALL, about.topic):
            return False
        if not all(
            word in f"{myth.says} {topics()[about.topic]}".lower() for word in self.find.lower().split()
        ):
            return False
        if isinstance(about, Prediction):
            return self.verdict == ALL and self.checked_on is None
        if self.verdict not in (ALL, checked.verdict_of(about)):
            return False
        return self.checked_on is None or (
            about.model is not None and about.fits(get_model(self.model).shape)
        )


def myth_controls() -> Controls[MythForm]:
    """Return the page's controls, not yet drawn."""
    return Controls(MythForm, SCOPE)


def myths_page() -> None:
    """Draw the page."""
    pages.open_page()
    form = myth_controls()
    form.read_address()
    with errors_boxed():
        file, name = learner.current_learner()
        chosen = just_chosen(LIST)
        if chosen is not None:
            form.remember("claim", chosen)
        _head(form)
        with st.container(key="myths-bench"):
            left, right = st.columns([310, 790], gap="small")
        with left, st.container(border=True, key="myths-side"):
            _filters(form)
            known, settings = judged(file, name), form.form()
            found = settings.select()
            current = settings.claim or _next(found, known, "")
            _list(found, known, current)
        with right:
            if not current:
                st.markdown("No claim matches. Choose another verdict or topic.")
            elif _myth(all_myths()[current], settings.checked_on, file, name, known.get(current)):
                _onward(known, current, _next(found, known, current))
    state.write_address(form.address())


def _head(form: Controls[MythForm]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="myths-head"):
        st.title("Myths", width="content")
        st.markdown(
            f":small[{len(all_myths())} things people say about fine-tuning. Judge one; then see what code and "
            f"experiments on {asking.here()} find.]",
            width="content",
        )
        with st.container(width=220):
            form.draw("topic", label_visibility="collapsed")


def _filters(form: Controls[MythForm]) -> None:
    """Draw the search and the filters, unfolded while one is set or was misread in the URL."""
    form.draw("find", placeholder="Search the claims", label_visibility="collapsed")
    names = ("origin", "verdict", "model")
    misread = any(state.address_problem(SCOPE, name) is not None for name in names)
    with st.expander(
        "Filters", expanded=misread or any(form.value(name) != form.default(name) for name in names)
    ):
        for name in names:
            form.draw(name)
    form.below("claim")


def _list(found: Sequence[str], known: Mapping[str, Judged], current: str) -> None:
    """Draw the learner's score and the list: judged claims first, then those still to judge."""
    seen = [known[name] for name in found if name in known]
    right = sum(one.correct for one in seen)
    wrong = len(seen) - right
    score = f"you were right about {right}, mistaken about {wrong}" if seen else "Guess before you look."
    st.markdown(f"**{len(seen)}** of {len(found)} judged")
    shares = {"right": right, "wrong": wrong, "left": len(found) - len(seen)}
    bar = "".join(f'<i class="{name}" style="flex:{share}"></i>' for name, share in shares.items())
    st.html(f'<div class="myths-bar">{bar}</div><small>{score}</small>')
    order = sorted(found, key=lambda name: name not in known)
    lines = [_entry(name, known.get(name)) for name in order]
    if rows((Column("Claim"),), lines, LIST, "Claims", current):
        st.rerun()


def _entry(name: str, one: Judged | None) -> RowOf:
    """Return a claim's row: a mark, what is said, and under it the guess and, where it was mistaken, the truth."""
    says = all_myths()[name].says
    if one is None:
        return RowOf(name, (f"○ {says}",))
    truth = "" if one.correct else f" · it is {one.truth}"
    mark, kind = ("✓", "right") if one.correct else ("✕", "wrong")
    return RowOf(name, (f"{mark} {says}\nyou: {one.guess}{truth}",), (kind,))


def _next(found: Sequence[str], known: Mapping[str, Judged], current: str) -> str:
    """Return the next claim: one not judged, else the mistaken one that was judged longest ago, else the next one."""
    start = found.index(current) + 1 if current in found else 0
    ahead = [name for name in (*found[start:], *found[:start]) if name != current]
    fresh = [name for name in ahead if name not in known]
    mistaken = sorted(
        (name for name in ahead if name in known and not known[name].correct), key=lambda one: known[one].at
    )
    return next(iter([*fresh, *mistaken, *ahead]), current)


def _myth(myth: Myth, model: str | None, file: Learners, name: str, before: Judged | None) -> bool:
    """Draw one myth: the claim with the guess, then the verdict and the experiment. Return whether it has a verdict."""
    about = myth.about
    again = state.remembered(_AGAIN, about.id, False)
    guess, outcome, settled = None, None, None
    if isinstance(about, Prediction):
        guess = predicted.committed(about, name)
        settled = predicted.settled(file, name).get(about.id)
        outcome = predicted.replayed(about, settled) if settled is not None else None
    told = before is not None and (outcome is not None or isinstance(about, Claim))
    told = (told and not again) or about.id in state.scope(_SHOWN)
    with st.container(border=True, key="myth-guess"):
        quote = f" · “{plain(about.quote)}”" if isinstance(about, Claim) else ""
        st.markdown(f":small[{plain(topics()[about.topic])}{quote}]")
        st.markdown(f"## {plain(myth.says)}")
        if isinstance(about, Prediction):
            st.markdown(about.question)
            if guess is not None:
                st.markdown(f"Your guess: **{plain(about.options[guess.option])}**, {guess.sure}% sure")
                predicted.settle(about, guess, file, name)
                return False
            if settled is not None and outcome is None:
                st.caption(
                    "This experiment has changed since your guess, so its earlier result is not shown."
                )
        if not told:
            _guess(myth, file, name)
            return False
        if before is not None:
            sure = "" if before.sure is None else f", {before.sure}% sure"
            st.markdown(f"Your guess: **{plain(before.guess)}**{sure}")
    if isinstance(about, Claim):
        _checked(about, model, before)
    elif outcome is not None and settled is not None and before is not None:
        _predicted(about, outcome, settled, before)
    return True


def _guess(myth: Myth, file: Learners, name: str) -> None:
    """Draw the form of a guess, and take it."""
    about, options = myth.about, myth.options
    chance = round(100 / len(options))
    with st.form(f"guess-{about.id}", border=False):
        left, right = st.columns([2, 1], gap="medium")
        option = left.radio(
            "Your guess", range(len(options)), index=None, format_func=options.__getitem__,
            key=state.widget_key(learner.GUESSES, f"{name}/{about.id}"), horizontal=isinstance(about, Claim),
        )  # fmt: skip
        sure = right.slider(
            f"How sure are you? {chance}% means a pure guess.", chance, 100, chance, format="%d%%",
            key=state.widget_key(learner.GUESSES, f"{name}/{about.id}/sure"),
        )  # fmt: skip
        with st.container(horizontal=True):
            pressed = st.form_submit_button("Check my guess", type="primary")
            replay = (
                isinstance(about, Prediction)
                and stored(about) is not None
                and st.form_submit_button("Check it with a stored run", icon=":material/replay:")
            )
            skipped = isinstance(about, Claim) and st.form_submit_button("Show the verdict", type="tertiary")
    if isinstance(about, Prediction):
        st.caption(predicted.announcement(about))
    if skipped:
        state.remember(_SHOWN, about.id, True)
    elif not pressed and not replay:
        return
    elif option is None:
        st.markdown(":red[:material/edit: Choose an option first.]")
        return
    elif isinstance(about, Prediction):
        predicted.commit(about, Guess(option, sure), file, name, replay)
    else:
        _judge(about, Guess(option, sure), file, name)
    state.remember(_AGAIN, about.id, None)
    myth_controls().remember("claim", about.id)
    st.rerun()


def _judge(claim: Claim, guess: Guess, file: Learners, name: str) -> None:
    """Store a guess about a claim with the claim's verdict."""
    verdict = checked.verdict_of(claim)
    if verdict is None:
        raise BadInput("This claim has no verdict yet. Choose another claim.", "claim")
    right = VERDICTS.index(verdict)
    known = {"id": claim.id, "guess": guess.option, "right": right, "sure": guess.sure}
    file.add_result(name, KIND, known | {"correct": guess.option == right})


def _checked(claim: Claim, model: str | None, before: Judged | None) -> None:
    """Draw a claim's verdict and reason, then its experiment."""
    with st.container(
        border=True, key=f"myth-verdict-{'shown' if before is None else 'hit' if before.correct else 'miss'}"
    ):
        found = checked.found_on(claim, model)
        if found is None:
            return
        st.markdown(checked.badge(checked.verdict_of(claim) or found.verdict, "The claim is "))
        checked.finding(claim, found, model)
    with st.container(border=True, key="myth-experiment"):
        checked.experiment(claim, model)


def _predicted(prediction: Prediction, outcome: PredictionOutcome, result: Result, before: Judged) -> None:
    """Draw what the experiment showed and why."""
    with st.container(border=True, key=f"myth-verdict-{'hit' if before.correct else 'miss'}"):
        badge = (
            ":green-badge[:material/check: Right]" if before.correct else ":red-badge[:material/close: Wrong]"
        )
        st.markdown(f"{badge} **The answer is: {plain(before.truth)}.** {figures.badge(outcome.source)}")
        st.markdown(f"**Why.** {prediction.why}")
        page_links(prediction.pages)
        st.caption("\n".join(f"- {source}" for source in prediction.sources))
    with st.container(border=True, key="myth-experiment"):
        st.markdown(f"### What the experiment shows {figures.badge(outcome.source)}")
        predicted.evidence(prediction, outcome)
        measured = result.content.get("measured", "")
        here = f"Run here on {interview_date(result.at)}."
        st.caption(f"A stored run, measured {plain(measured)}." if measured else here)


def _onward(known: Mapping[str, Judged], current: str, following: str) -> None:
    """Draw how well sureness and verdicts agree, and the ways to another guess and to the next claim."""
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="myth-next"):
        st.markdown(_calibration(known, known[current]) if current in known else "")
        st.button("Guess again", type="tertiary", key="guess-again", on_click=_open, args=(current, True))
        ahead = (following, following in known)
        st.button("Next claim", type="primary", key="next-claim", on_click=_open, args=ahead)


def _open(name: str, again: bool) -> None:
    """Show a claim the next time the page is drawn; ``again``: with a new guess, although it has been judged."""
    myth_controls().put(claim=name)
    if again:
        state.remember(_AGAIN, name, True)
        state.remember(_SHOWN, name, None)
        if isinstance(about := all_myths()[name].about, Prediction):
            predicted.forget_runs(about)


def _calibration(known: Mapping[str, Judged], one: Judged) -> str:
    if one.sure is None:
        return ""
    sure = [other for other in known.values() if other.sure is not None]
    alike = [other for other in sure if abs((other.sure or 0) - one.sure) <= CLOSE]
    hits = sum(other.correct for other in alike)
    head = f"{'Sure' if one.sure >= SURE else 'Unsure'}, and {'right' if one.correct else 'mistaken'}."
    said = f" When you were about {one.sure}% sure, you were right {hits} times out of {len(alike)}."
    count = said if len(alike) > 1 else ""
    back = "" if one.correct else "  \n:small[This claim comes back once you have judged the others.]"
    return f"**{head}**{count}{back}"
