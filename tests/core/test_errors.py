"""The one exception hierarchy and its sentences."""

from __future__ import annotations

import pytest

from peft_lab.cli.options import known_run, split_assignment
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine.devices import device_of
from peft_lab.methods import get_method
from peft_lab.methods.shared.targets import target_problems
from peft_lab.models.catalogue import get_model
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.tracking import start
from tests.prose import says


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lroa", "'lora'"), ("zzzz", "Known: lora, ia3."), ("", "Known: lora, ia3.")],
)
def test_unknown_names_offer_the_nearest_or_all(name: str, hint: str) -> None:
    error = UnknownName("method", name, iter(["lora", "ia3"]), "method")
    assert says(str(error), "method", name, hint)
    assert error.field == "method"


def test_of_many_names_those_that_contain_it_are_listed() -> None:
    names = [f"model-{size}b" for size in range(1, 41)]
    error = str(UnknownName("model", "8B", names))
    assert [name for name in names if f"{name}," in f"{error}".replace(".", ",")] == names[7::10]
    assert says(str(UnknownName("sweep", "mine", [])), "sweep", "mine")
    assert "28 more" in str(UnknownName("model", "?", names)), "twelve of forty are listed"


def test_what_is_typed_without_end_is_repeated_in_short() -> None:
    """Wherever a message repeats it: names of things, knobs, options."""
    long = "q_proj" * 1_000
    shape = get_model("smollm2-135m").shape
    told = [str(UnknownName("task", long, ["sentiment"]))]
    told += [problem.message for problem in target_problems(shape, [long, "q_proj"])]
    for call in (
        lambda: get_method("lora").knob("r").parse(long),
        lambda: get_method("ia3").require(
            shape, {"feedforward_modules": (long,), "target_modules": ("q_proj",)}
        ),
        lambda: split_assignment(long),
        lambda: known_run(long),
        lambda: device_of(f"1{long}"),
        lambda: start.tracker_names(long),
        lambda: RunRequest("smollm2-135m", "lora", "json", steps=long).complete(),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadInput) as refused:
            call()
        told.append(str(refused.value))
    for message in told:
        assert "q_pro" in message
        assert len(message) < 500, message
