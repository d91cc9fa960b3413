"""The Compare page, through the app, without a browser and without training."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.advise.recipes.replications import RuleVerdict, replications
from peft_lab.core import limits
from peft_lab.core.units import written_figure
from peft_lab.engine import published
from peft_lab.methods import all_methods
from peft_lab.runs.spec import usual_eval_rows
from peft_lab.runs.tracking import start as tracking
from peft_lab.runs.tracking.start import TrackerState
from peft_lab.studies import carrying
from peft_lab.studies import landscape as landscapes
from peft_lab.studies.compare import results, shipped, store
from peft_lab.studies.compare.store import make_plan
from peft_lab.studies.shipped_sweep import shipped_points
from peft_lab.ui.compare import landscape, page
from peft_lab.ui.compare import results as drawings
from peft_lab.ui.compare.setup import CompareForm
from peft_lab.ui.runs import study
from tests.conftest import link
from tests.studies import made_points as made
from tests.studies.compare.conftest import WISH, FakeQueue
from tests.waits import SECONDS, until

pytestmark = pytest.mark.weights
ROOT = Path(__file__).parents[2]


@pytest.fixture
def runner(own_home: Path, assets_home: object, monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    """A lab of its own in which runs are over at once, and nothing that came with the app."""
    link(own_home)
    made = FakeQueue()
    monkeypatch.setattr(carrying, "POLL", 0.0)
    monkeypatch.setattr(study, "get_queue", lambda: made)
    ship(monkeypatch, {})
    return made


def ship(monkeypatch: pytest.MonkeyPatch, documents: dict[str, Any]) -> None:
    monkeypatch.setattr(page, "all_shipped", lambda: documents)


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in address.items():
        app.query_params[name] = value
    app.switch_page("pages/compare.py")
    app.run()
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    texts = [element.value for element in (*app.markdown, *app.info, *app.warning, *app.error)]
    return "\n".join([*texts, *(element.proto.body for element in app.get("html"))])


def finished(runner: FakeQueue) -> dict[str, Any]:
    comparison = store.keep(make_plan(WISH))
    carrying.carry_out_here(comparison, runner)
    return results.document(comparison)


def settle(app: AppTest) -> None:
    until(lambda: not any(carrying.at_work(each) for each in store.comparisons()))
    app.run()


def test_it_opens_with_nothing_compared(runner: FakeQueue) -> None:
    app = opened()
    assert "No comparisons yet" in told(app)
    assert app.button(key="compare-start")
    assert not app.get("plotly_chart")
    assert len(opened(tab="learning rates").get("plotly_chart")) == 1
    others = opened(tab="published")
    assert any("63 published runs" in each.label for each in others.expander)
    assert len(others.get("plotly_chart")) == 3  # two figures, all methods, one method


def test_an_address_opens_the_tab_of_what_it_sets_and_says_what_is_seen(runner: FakeQueue) -> None:
    app = opened(bench="image")
    assert dict(app.query_params) == {"tab": "published", "bench": "image"}
    assert dict(opened(lines="method").query_params) == {"tab": "learning rates", "lines": "method"}
    assert not dict(opened(tab="side by side").query_params)
    assert "no tab" in told(opened(tab="nowhere"))


def test_what_others_published_is_in_the_address(runner: FakeQueue) -> None:
    app = opened(tab="published")
    assert dict(app.query_params) == {"tab": "published"}  # the defaults say nothing
    shown = told(app)
    moved = published.moved()
    assert moved is not None
    assert f"{100 * moved.median:.1f} points (median)" in shown
    assert "lora, rank32-dora from 0.30 to 0.05" in shown
    assert "With about 8.43M to 9.46M trainable parameters: rank10-target-mlp 49.4%" in shown
    # the front by hand: nothing trains as few and answers better
    rows = published.rows().values()
    front = [
        row
        for row in rows
        if all(
            row.accuracy > other.accuracy
            for other in rows
            if other is not row and other.trainable <= row.trainable
        )
    ]
    assert f"{len(front)} of {len(rows)} runs." in shown
    chosen = opened(
        px="tokens_per_second", py="forgetting_change", family="ia3", run="ia3--llama-3.2-3B-lr_0.001"
    )
    assert dict(chosen.query_params) == {
        "tab": "published",
        "px": "tokens_per_second", "py": "forgetting_change", "family": "ia3", "run": "ia3--llama-3.2-3B-lr_0.001",
    }  # fmt: skip
    assert "0.001" in told(chosen) and "Weight decay" in told(chosen)
    pictures = opened(bench="image", py="forgetting_change")
    assert "a figure is missing: full-finetuning." in told(pictures)
    assert "only one run was published twice (randlora, 0.9 points apart)" in told(pictures)
    assert "cannot be opened" in told(pictures)


def test_the_landscape_is_in_the_address_and_names_its_best_point(runner: FakeQueue) -> None:
    sweep = shipped_points()
    model = landscapes.models(sweep)[0]
    held = landscapes.usual(sweep, model)
    for by, figure in (("rank", "loss"), ("method", "metric")):
        lines = landscapes.lines(sweep, model, by, figure, held)
        best = landscapes.best_of(lines, figure)
        assert best is not None
        asked = {"tab": "learning rates"} | ({} if by == "rank" else {"lines": by, "shown": figure})
        app = opened(**asked)
        assert dict(app.query_params) == asked
        assert f"**{best[0].label}** at learning rate **{written_figure(best[1].rate)}**" in told(app)
    moved = opened(lines="targets", held_rank=str(sweep.values(model, "rank")[0]), held_batch="32")
    assert dict(moved.query_params) == {
        "tab": "learning rates",
        "lines": "targets", "held_rank": str(sweep.values(model, "rank")[0]), "held_batch": "32",
    }  # fmt: skip
    assert [box.key for box in moved.selectbox if "held_targets" in str(box.key)] == []


def test_the_rules_stand_under_the_landscape_with_their_verdicts(runner: FakeQueue) -> None:
    shown = html.unescape(told(opened(tab="learning rates")))
    found = {name: one for name, one in replications().items() if one.value is not None}
    assert found
    for one in found.values():
        assert one.what in shown
        verdict = "open" if one.verdict is RuleVerdict.NOT_TESTABLE else one.verdict.partition(":")[0]
        assert f">{verdict}</td>" in shown
    assert f"Rules that cannot be tested here: {len(replications()) - len(found)}" in str(
        [each.label for each in opened(tab="learning rates").expander]
    )


def test_bands_and_marks_of_the_landscape() -> None:
    sweep = made.sweep(made.Truth(noise=0.1))
    held = landscapes.usual(sweep, "smollm2-135m")
    lines = landscapes.lines(sweep, "smollm2-135m", "rank", "loss", held)
    figure = landscape.landscape_figure(lines, "loss", "nats")
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    drawn = [trace for trace in figure.data if trace.fill is None]
    assert len(bands) == len(drawn) == len(lines) == 3
    best = landscapes.best_of(lines, "loss")
    assert best is not None
    stars = [(trace.name, trace.x[list(trace.marker.symbol).index("star")])
             for trace in drawn if "star" in trace.marker.symbol]  # fmt: skip
    assert stars == [(best[0].label, best[1].rate)]
    assert all(sum(symbol != "circle-open" for symbol in trace.marker.symbol) == 1 for trace in drawn)
    assert figure.layout.xaxis.type == "log" and figure.layout.yaxis.title.text == "nats"
    assert [trace.line.dash for trace in drawn] == ["solid", "solid", "dash"]


def test_a_published_run_opens_in_the_lab(runner: FakeQueue) -> None:
    app = opened(run="lora--llama-3.2-3B-rank64-rslora")
    links = told(app)
    assert "(memory?tab=published&row=lora--llama-3.2-3B-rank64-rslora)" in links
    assert "(lora?model=llama-3.2-3b&r=64&lora_alpha=64&use_rslora=true)" in links
    assert f"lora?model={published.MODEL}" not in told(opened(run="lora--llama-3.2-3B-rank32-mica"))


def test_a_comparison_is_made_from_the_form_and_shown(runner: FakeQueue) -> None:
    app = opened(methods="lora,bitfit,prefix", steps="2", seeds="2", batch="4", rows="100")
    assert "4 runs of 2 steps" in told(app)
    app.button(key="compare-start").click().run()
    settle(app)
    assert not app.exception
    assert [(spec.method, spec.seed) for spec in runner.submitted] == [
        ("lora", 0), ("bitfit", 0), ("lora", 1), ("bitfit", 1),
    ]  # fmt: skip
    shown = told(app)
    assert "LoRA beats BitFit by 10.0 points" in shown
    assert "**Prefix Tuning**: Does not apply: Prefix Tuning writes" in shown
    assert "4 runs of 2 steps; 4 of them already done" in shown


def test_every_figure_of_the_table_is_the_documents(
    runner: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other figures in the document are other figures on the page: nothing is typed in."""
    found = finished(runner)
    store.delete(found["id"])
    odd = {"metric_mean": 0.4321, "metric_std": 0.0123, "metric_before": 0.2468, "trainable": 1357,
           "percent": 0.0777, "seconds": 83.0, "peak_bytes": 91_000_000, "stored_bytes": 6_540,
           "seconds_std": 7.0, "added_seconds": 0.00789, "added_seconds_std": 0.0021,
           "base_inference_seconds": 0.1}  # fmt: skip
    found["rows"][0].update(odd, metric_values=[0.42, 0.43, 0.4463])
    ship(monkeypatch, {found["id"]: results.with_conclusions(found)})
    shown = told(opened())
    for text in (
        "43.2 ± 1.2%",
        "1,357 · 0.0777%",
        "83.0 ± 7.0 s",
        "91.0 MB",
        "6.54 kB",
        "+7.9 ± 2.1 ms · +8%",
    ):
        assert text in shown, text
    assert "Accuracy before training: 24.7% to" in shown
    assert "comes with the app" in "".join(opened().selectbox(key="compare.0.comparison").options)


def test_what_was_interrupted_goes_on_without_repeating(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(replace(WISH, seeds=(0, 1))))
    runner.endings = {("lora", 1): "lost", ("bitfit", 1): "lost"}
    carrying.carry_out_here(comparison, runner)
    app = opened()
    assert "2 of 4 runs are done." in told(app)
    assert "means are over fewer seeds" in told(app)
    runner.endings, before = {}, len(runner.submitted)
    next(button for button in app.button if button.label == "Continue").click().run()
    settle(app)
    assert [(spec.method, spec.seed) for spec in runner.submitted[before:]] == [("lora", 1), ("bitfit", 1)]
    assert not [button for button in app.button if button.label == "Continue"]


def test_what_a_tracker_was_not_told_is_said_under_the_comparison(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    carrying.carry_out_here(comparison, runner)
    ended = list(comparison.standing().runs.values())
    for run in ended:
        tracking.write_tracking(run.folder, TrackerState("trackio", "a folder", run.id, complete=True))
    assert f"trackio: all of these {len(ended)} runs, in a folder." in told(opened())
    tracking.failed_trackers(ended[0].folder, "trackio", "The disk is full.")
    assert f"trackio did not receive all of 1 of these {len(ended)} runs: The disk is full." in told(opened())


def test_while_it_goes_on_it_can_be_stopped(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    with comparison.claimed():
        app = opened()
        assert "0 of 6 runs done" in app.get("progress")[0].proto.text
        app.button(key="study-stop").click().run()
        assert comparison.asked_to_stop()


def test_a_method_that_failed_says_why_in_its_row(runner: FakeQueue) -> None:
    runner.endings = {("bitfit", seed): "failed" for seed in WISH.seeds}
    finished(runner)
    app = opened()
    assert "Failed: as the test wanted" in told(app)
    assert "3 of 6 runs are done and 3 failed" in told(app)
    assert [button.label for button in app.button if button.label == "Try again"]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"model": "gpt-5"}, "no model that can be trained here"),
        ({"task": "json"}, "no task for this model"),
        ({"methods": "lorra"}, "'lora'"),
        ({"steps": "9" * 5000}, "999…"),
        ({"seeds": "99"}, f"from 1 to {limits.SEEDS}"),
        ({"comparison": "none"}, "no comparison"),
        ({"tab": "none"}, "no tab called"),
        *(({"lines": "method", name: "none"}, f"no {noun}") for name, noun in (
            ("landscape", "model of the sweep"), ("lines", "a line for each"), ("shown", "up the axis"),
            ("held_rank", "rank"), ("held_targets", "targets"),
        )),
        *(({name: "none"}, f"no {noun}") for name, noun in (
            ("bench", "benchmark"), ("px", "across"), ("family", "method"), ("run", "run"),
        )),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_told(
    runner: FakeQueue, address: dict[str, str], said: str
) -> None:
    finished(runner)
    app = opened(**address)
    assert told(app).count(said) == 1
    form = next((each for each in app.expander if each.label == "New comparison"), None)  # of one tab alone
    assert bool(form and form.proto.expanded) == bool(address.keys() & CompareForm.fields().keys())


def test_the_address_chooses_axes_and_says_them(runner: FakeQueue) -> None:
    finished(runner)
    app = opened(x="peak_bytes", y="seconds")
    assert (app.query_params["x"], app.query_params["y"]) == ("peak_bytes", "seconds")
    assert "Pareto front, from left to right: LoRA, BitFit." in told(app)  # equal on both


def test_the_csv_has_every_method_and_every_seed(runner: FakeQueue) -> None:
    import csv
    import io

    found = finished(runner)
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(drawings.as_csv(found)))}
    assert set(rows) == {"lora", "bitfit", "prefix"}
    assert float(rows["lora"]["accuracy_seed_2"]) == pytest.approx(0.82)
    assert float(rows["lora"]["metric_mean"]) == pytest.approx(0.81)
    assert rows["prefix"]["metric_mean"] == "" and "cache" in rows["prefix"]["why"]
    assert int(rows["lora"]["peak_bytes"]) == 1002


def test_percents_along_an_axis_do_not_repeat() -> None:
    x, y = (results.get_axis(name) for name in results.DEFAULT_AXES)
    titles = {axis.name: axis.title for axis in (x, y)}
    for worst, ticks in ((0.54, ".1%"), (0.10, ".0%")):
        rows = [
            {"method": name, "title": name, "trainable": 10, "metric_mean": value}
            for name, value in (("lora", 0.55), ("bitfit", worst))
        ]
        figure = drawings.scatter(rows, x, y, titles, ["lora"], {}, [])
        assert figure.layout.yaxis.tickformat == ticks
        assert figure.layout.yaxis.autorangeoptions.clipmax == 1, "no share is above the whole"


def test_what_rounds_to_nothing_is_not_below_it() -> None:
    row = {"added_seconds": -2e-5, "base_inference_seconds": 0.01, "added_seconds_std": 1e-4}
    assert drawings._added(row) == "+0.0 ± 0.1 ms · +0%"


def test_curves_are_averaged_and_banded(runner: FakeQueue) -> None:
    assert drawings.smooth([1.0, 2.0, 3.0, 4.0], 2) == [1.0, 1.5, 2.5, 3.5]
    assert drawings.smooth([None, None], 3) == [None, None]
    found = finished(runner)
    rows = [row for row in found["rows"] if row["loss"]["mean"]]
    figure = drawings.learning_curves(rows)
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    lines = [trace for trace in figure.data if trace.fill is None]
    assert len(bands) == len(lines) == 2
    assert list(lines[0].y) == pytest.approx([1.01, 0.91])
    assert list(bands[0].y) == pytest.approx([1.02, 0.92, 0.90, 1.00])
    assert set(drawings.method_colours()) == set(all_methods())


def test_shipped_documents_draw() -> None:
    for found in shipped.all_shipped().values():
        heads, rows, told = drawings.table_rows(found)
        assert {len(heads)} == {len(row) for row in rows} and len(rows) + len(told) >= len(found["rows"])
        drawings.learning_curves([row for row in found["rows"] if row["loss"]["mean"]])


def test_a_model_of_images_is_asked_about_images(runner: FakeQueue) -> None:
    app = opened(model="minilm-l6", steps="4")
    boxes = {box.label: box.value for box in app.number_input}
    assert boxes["Held-out rows"] == usual_eval_rows("classification", "encoder", compared=True)
    next(box for box in app.selectbox if box.label == "Model").set_value("dinov2-small").run()
    assert not app.exception
    boxes = {box.label: box.value for box in app.number_input}
    assert boxes["Held-out images"] == usual_eval_rows("classification", "vision", compared=True), (
        "not the other model's"
    )
    assert "Held-out rows" not in boxes
