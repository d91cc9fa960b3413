"""The Sweeps page: how to begin, how far one is, its best with an interval, its pictures, its address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import BadInput
from peft_lab.runs import checkpoints
from peft_lab.runs import store as runs
from peft_lab.studies import carrying
from peft_lab.studies.landscape import METRIC
from peft_lab.studies.sweeps import picture, plan, store
from peft_lab.ui.compare.landscape import RATES
from peft_lab.ui.sweeps import page as setup
from peft_lab.ui.sweeps import pictures
from tests.conftest import link
from tests.prose import says
from tests.studies.sweeps import made
from tests.ui.badges import without_badge
from tests.ui.test_pages import opened, told

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    link(own_home)
    return own_home


def chosen(app: AppTest, label: str) -> Any:
    return next(box for box in app.selectbox if box.label == label)


def address(app: AppTest) -> dict[str, str]:
    return {name: text if isinstance(text, str) else text[0] for name, text in app.query_params.items()}


def said(app: AppTest) -> str:
    return told(app) + str([element.proto for element in app.main])


def table(app: AppTest) -> str:
    return next(str(each.proto) for each in app.get("html") if "<table" in str(each.proto))


def figure(app: AppTest) -> list[Any]:
    return [str(each.proto.spec) for each in app.get("plotly_chart")]


def test_the_form_and_its_file_for_the_command_line_ask_for_the_same_runs() -> None:
    app = opened("sweeps")
    assert not app.exception and "No sweeps yet" in app.info[0].value and "12 runs of 30 steps" in told(app)
    file, command = (block.value for block in app.code[:2])
    assert command == "python -m peft_lab sweep sweep.yaml"
    wanted = plan.sweep_of(yaml.safe_load(file))
    assert wanted == plan.sweep_of(made.EXAMPLE) == setup.SweepSetup.usual("minilm-l6").request()


@pytest.mark.parametrize(
    ("address", "field", "offender"),
    [
        ({"values": "2, x"}, "values", "'x'"),
        ({"values": " , "}, "values", "commas"),
        ({"knob": "learning_rate"}, "second", "same"),
        ({"second_values": "0.001, -1"}, "second_values", "0"),
        ({"values": "0"}, "values", "0"),
    ],
)
def test_what_is_wrong_is_told_at_its_control_before_anything_starts(
    address: dict[str, Any], field: str, offender: str
) -> None:
    app = opened("sweeps", **address)
    assert not app.exception
    with pytest.raises(BadInput, match=offender) as refused:
        replace(setup.SweepSetup.usual("minilm-l6"), **address).request()
    assert refused.value.field == field
    assert not [button for button in app.button if button.label == "Start the sweep"]
    assert any(offender in line for line in told(app).split("\n") if "error:" in line)
    assert not store.sweeps() and not runs.runs()


def test_a_knob_that_the_methods_lack_gives_way_to_one_that_they_have() -> None:
    app = opened("sweeps", methods="ia3", knob="r", second="none")
    assert chosen(app, "Vary").value == "learning_rate" and "r" not in chosen(app, "Also vary").options
    assert "6 runs of 30 steps" in told(app)


def test_a_sweep_is_started_stopped_and_continued_from_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(carrying, "start", lambda study, queue: begun.append(study.id))
    app = opened("sweeps", values="2", second="none", seeds="1", model="minilm-l6")
    next(button for button in app.button if button.label == "Start the sweep").click().run()
    (sweep,) = store.sweeps()
    assert begun == [sweep.id] and [spec.values["r"] for spec in sweep.specs] == [2]
    assert sweep.specs == plan.sweep_of({**made.EXAMPLE, "seeds": [0], "grid": {"r": [2]}}).specs
    next(button for button in app.button if button.label == "Continue").click().run()
    assert begun == [sweep.id] * 2
    monkeypatch.setattr(carrying, "at_work", lambda study: True)
    app = opened("sweeps")
    next(button for button in app.button if button.label == "Stop").click().run()
    assert sweep.asked_to_stop()


def test_the_best_is_told_with_its_interval_and_how_that_is_computed() -> None:
    made.kept()
    app = opened("sweeps")
    assert not app.exception and not without_badge(app)[1]
    text = told(app)
    assert "##### Best: learning rate 3e-3, r 8" in text
    low, high = store.interval([0.84, 0.86]) or (0, 0)
    assert high < 1
    assert says(text, "85.0%", f"{low:.1%} to {high:.1%}")
    assert says(text, "Student's t", "95%") and "best of 6" in text


def test_every_run_is_in_the_table_with_its_link_the_best_first() -> None:
    kept = made.kept(fate=lambda number, _: "failed" if number == 3 else "done" if number < 8 else "")
    app = opened("sweeps")
    text = table(app)
    found = store.trials(kept.specs)
    for trial in found:
        assert not trial.run or f"lora?run={trial.run}&amp;tab=train" in text.replace("\\", "")
    assert text.count("<tr>") == 13 and text.count("<a href") == 8
    scored = sorted((trial for trial in found if trial.done), key=lambda trial: -(trial.figure(METRIC) or 0))
    places = [text.index(f"run={trial.run}") for trial in scored]
    assert places == sorted(places) and text.index("failed") > places[-1]
    assert "the test wanted" in told(app)
    assert "7 of 12 runs are done" in app.warning[0].value


def test_it_follows_what_is_under_way() -> None:
    kept = made.kept(fate=lambda number, _: "done" if number == 0 else "running" if number == 1 else "")
    app = opened("sweeps")
    assert "1 of 12 runs done" in said(app) and "1 running" in said(app) and "10 to come" in said(app)
    assert "seed 0: running, step 3 of 30" in told(app) and not app.warning
    (under_way,) = [trial for trial in store.trials(kept.specs) if trial.under_way]
    step = {"lr": 1.0, "grad_norm": 1.0, "tokens": 40, "seconds": 0.5, "tracked": False}
    runs.get(under_way.run).log.emit("step", step=4, loss=0.9, **step)
    assert "step 4 of 30" in told(app.run())
    for number in range(5, 31):
        runs.get(under_way.run).log.emit("step", step=number, loss=0.9, **step)
    runs.get(under_way.run).log.emit("done", message="")
    app.run()
    assert "2 of 12 runs done" in said(app) and app.warning


def test_what_a_sweep_ended_early_is_told_apart_from_what_failed() -> None:
    kept = made.kept(fate=lambda number, _: "stopped" if number < 2 else "done")
    for trial in store.trials(kept.specs)[:2]:
        checkpoints.note_ending(
            runs.get(trial.run), checkpoints.Verdicts(kept.id, (checkpoints.Rung(2, 0.9, False),))
        )
    store._ended_trials.clear()
    app = opened("sweeps")
    assert not app.exception and "10 of 12 runs done** · 2 ended early" in said(app)
    assert "without a result" not in said(app) and not app.warning
    assert table(app).count("ended early") == 2 and "rung" in told(app)


def test_the_address_opens_the_same_picture() -> None:
    grid = {**made.EXAMPLE["grid"], "lora_alpha": [8, 16]}
    first, second = made.kept({"grid": grid}).id, made.kept({"seeds": [0]}).id
    wanted = {"sweep": first, "x": "r", "y": "loss", "lines": "lora_alpha", "held": "learning_rate=0.01"}
    app = opened("sweeps", **wanted)
    assert not app.exception and ":material/link_off:" not in told(app)
    assert chosen(app, "Sweep").value == first != second
    assert [chosen(app, label).value for label in ("Horizontal axis", "Vertical axis", "Lines")] == [
        "r",
        "loss",
        "lora_alpha",
    ]
    assert chosen(app, "Learning rate").value == 0.01
    assert address(app) == wanted
    chosen(app, "Vertical axis").select("lora_alpha").run()
    assert address(app)["y"] == "lora_alpha" and not app.exception
    assert "coloured by Accuracy" in told(app)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ({"sweep": "minilm-nothing"}, "no sweep"),
        ({"x": "rank"}, "no axis"),
        ({"y": "beauty"}, "no axis"),
        ({"lines": "x"}, "no axis"),
        ({"held": "lora_alpha=3"}, "no value"),
        ({"held": "rank=3"}, "no setting"),
    ],
)
def test_an_address_that_cannot_be_read_is_told_at_its_control(
    address: dict[str, str], sentence: str
) -> None:
    made.kept({"seeds": [0], "grid": {**made.EXAMPLE["grid"], "lora_alpha": [8, 16]}})
    app = opened("sweeps", **address)
    assert not app.exception and sentence in told(app)


def test_random_draws_are_coloured_over_two_axes() -> None:
    content = {name: value for name, value in made.EXAMPLE.items() if name != "grid"}
    content["random"] = {"runs": 5, "r": [2, 4, 8], "learning_rate": {"min": 0.001, "max": 0.01, "log": True}}
    content["seeds"] = [0]
    specs = plan.sweep_of(content).specs
    for number, spec in enumerate(specs):
        made.ended(spec, score=0.5 + 0.05 * number)
    store.keep(specs)
    app = opened("sweeps")
    assert not app.exception and chosen(app, "Vertical axis").value == "r"
    assert len(figure(app)) == 1 and "star" in figure(app)[0]


def test_a_loss_is_better_where_it_is_low() -> None:
    kept = made.kept({"eval_rows": 0})
    settings = store.settings_of(store.trials(kept.specs), store.varied(kept.specs))
    places = picture.places(settings, "learning_rate", "r", store.TRAINING)
    drawn = pictures.coloured(places, RATES, RATES, store.TRAINING, "Loss").data[0]
    assert drawn.marker.reversescale is True and list(drawn.marker.symbol).count("star") == 1
    fewer = [replace(place, seeds=1) if place.y == 8 else place for place in places]
    star = pictures.coloured(fewer, RATES, RATES, store.TRAINING, "Loss").data[0]
    assert star.y[list(star.marker.symbol).index("star")] == 2, "one seed alone is not the best"
    assert "Training loss" in told(opened("sweeps"))


def test_a_sweep_that_varies_nothing_numeric_has_no_landscape() -> None:
    kept = made.kept({"methods": ["lora", "bitfit"], "grid": {}}, lambda *_: "")
    for spec in kept.specs:
        made.ended(spec, score=0.5)
    app = opened("sweeps")
    assert not app.exception and "### Landscape" not in told(app) and "### Runs" in told(app)


def test_a_damaged_sweep_is_told_and_the_others_are_there(home: Path) -> None:
    kept = made.kept()
    broken = home / "sweeps" / "broken"
    broken.mkdir()
    (broken / "sweep.json").write_text("{")
    app = opened("sweeps", sweep=kept.id)
    assert not app.exception and "Best:" in told(app)
    app = opened("sweeps", sweep="broken")
    assert not app.exception and "cannot be read" in app.error[0].value
