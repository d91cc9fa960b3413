"""A folder of the adapters library on the Train tab: what it holds, its settings as knobs, its score."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.methods import get_method
from peft_lab.methods.shared import adapters_library as library
from peft_lab.models.catalogue import get_model
from peft_lab.runs import respond
from tests.models.assets import adapters_folders as saved
from tests.prose import says
from tests.waits import SECONDS

pytestmark = pytest.mark.usefixtures("own_home")


def _page() -> None:
    import streamlit as st

    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import get_model
    from peft_lab.ui import state
    from peft_lab.ui.components.knobs import Choice
    from peft_lab.ui.method import settings, train

    spec, entry = get_method("adapters"), get_model("minilm-l6")
    moved = state.scope("adapters")
    values = {
        **spec.defaults(entry.shape),
        **{k: v for k, v in moved.items() if k in spec.defaults(entry.shape)},
    }
    choice = Choice(spec, entry, "sentiment", values, ())
    train.open_folder(choice, None, False)
    st.session_state["start"] = settings.start_of(choice)


def files(monkeypatch: pytest.MonkeyPatch, given: dict[str, bytes]) -> None:
    found = [SimpleNamespace(name=name, getvalue=lambda data=data: data) for name, data in given.items()]
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: found)


def told(app: AppTest) -> str:
    return "\n".join(each.value for each in app.markdown)


def a_folder() -> dict[str, bytes]:
    """Of MiniLM's width; nothing reads the weights before they are scored or trained."""
    import json

    shape = get_model("minilm-l6").shape
    values = get_method("adapters").complete(shape, {"placement": "par_bn", "bottleneck": 24, "scale": 2.0})
    content = library.content_of(shape, values, "here", "BertForSequenceClassification", "")
    return {
        "adapter_config.json": json.dumps(content).encode(),
        "adapter.safetensors": b"none",
        "other.txt": b"x",
    }


def test_a_folder_is_opened_counted_and_its_settings_become_knobs(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def scores(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        each = {"metrics": {"accuracy": 0.5}, "loss": 1.0, "rows": 8, "seconds": 1.0}
        return {
            "metric": "accuracy",
            "rows": 8,
            "base": each,
            "opened": {**each, "metrics": {"accuracy": 0.75}},
        }

    from peft_lab.core import inspector

    def ask(function: Any, *arguments: Any) -> Any:
        return scores(*arguments) if function is respond.opened_scores else function(*arguments)

    monkeypatch.setattr(inspector, "get_inspector", lambda *_: SimpleNamespace(ask=ask))
    files(monkeypatch, a_folder())
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    assert not app.exception
    trained = 6 * (2 * 24 * 384 + 384 + 24)
    assert says(told(app), "bottleneck 24", "gelu", "2.0", trained)
    kept = Path(app.session_state["start"])
    assert (
        kept.parent == own_home / "uploads"
        and respond.opened_values(kept, "minilm-l6")["placement"] == "par_bn"
    )
    app.button(key="adapters-start-knobs").click().run()
    assert app.session_state["settings"]["adapters"]["placement"] == "par_bn"
    assert not [each for each in app.button if each.key == "adapters-start-knobs"]
    app.button(key="adapters-start-score").click().run()
    assert asked == [(str(kept), "minilm-l6", "sentiment", None)]
    assert says(told(app), "50%", "75%", "8 held-out")
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: [])
    app.button(key="adapters-start-out").click().run()
    assert app.session_state["start"] is None


def test_what_is_not_opened_is_a_sentence_and_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    content = (saved.FOLDER / saved.CLASSIFIER / "adapter_config.json").read_bytes()
    files(monkeypatch, {"adapter_config.json": content})
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    assert not app.exception
    assert says(told(app), "bert", 16)
    assert app.session_state["start"] is None
