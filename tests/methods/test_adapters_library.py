"""The adapters library: its placements answer as here, its folders are opened, ours are as it writes them.

Its answers are stored with their script.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core import asking
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.methods.shared import bottleneck
from peft_lab.models import meta
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape
from tests.methods import tiny
from tests.models.assets import adapters_folders as saved
from tests.models.assets import adapters_library as made
from tests.prose import facts

METHOD = get_method("adapters")
assert isinstance(METHOD, Adapters)
SPEC: Adapters = METHOD
STORED: dict[str, Any] = json.loads(made.FILE.read_text("utf-8"))
FOUND: dict[str, dict[str, Any]] = STORED["found"]
#: The last digits of float64. T5 takes its softmax in float32, so that two releases differ by more without adapters.
CLOSE = dict.fromkeys(made.MODELS, 1e-12) | {"t5": 1e-7}
CASES = [(model, placement) for model in made.MODELS for placement in made.PLACEMENTS]


def built(model_type: str) -> tuple[Any, ModelShape, Any]:
    """The model with the numbers of the script, its shape, and the kind of task."""
    kind, config = made.MODELS[model_type]
    model = made.build(model_type, kind, config)
    made.fill(model, keep="nothing")
    shape = meta.read_shape(model, model.config, kind, model_type, model_type)  # type: ignore[arg-type]
    return model, shape, {"encoder": None, "causal-lm": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}[kind]


def sites(shape: ModelShape, placement: str) -> dict[str, str]:
    """What the script calls each place, by the host's path."""
    found = {}
    for host, _ in bottleneck.host_places(shape, placement):
        place = "attention" if host.role == "o" else "output"
        for layer, path in zip(host.layers, host.paths, strict=True):
            stack = path.partition(".")[0] if shape.kind == "seq2seq" else ""
            found[path] = f"{stack}.{layer}.{place}"
    return found


def adapted(model_type: str, placement: str) -> Any:
    model, shape, task = built(model_type)
    values = {
        "placement": placement,
        "bottleneck": made.WIDTH,
        "nonlinearity": made.NONLINEARITY,
        "scale": made.SCALE,
    }
    SPEC.apply(model, shape, SPEC.require(shape, values), task)
    model.double()
    where = sites(shape, placement)
    with torch.no_grad():
        for name, value in bottleneck.parameters_of(model, "default").items():
            path, _, rest = name.partition(f".{bottleneck.CHILD}.")
            value.copy_(made.numbers(f"{where[path]}.{rest}", tuple(value.shape)))
    return model


@pytest.mark.parametrize("model_type", made.MODELS)
def test_the_models_are_the_same(model_type: str) -> None:
    model, _, _ = built(model_type)
    answer = made.answer(model, made.MODELS[model_type][0]).flatten().tolist()
    assert answer == pytest.approx(FOUND[model_type]["base"], rel=0, abs=CLOSE[model_type])


@pytest.mark.parametrize(("model_type", "placement"), CASES)
def test_a_placement_answers_as_the_library_does(model_type: str, placement: str) -> None:
    stored = FOUND[model_type][placement]
    model = adapted(model_type, placement)
    answer = made.answer(model, made.MODELS[model_type][0]).flatten().tolist()
    assert answer == pytest.approx(stored["answer"], rel=0, abs=CLOSE[model_type])
    far = max(abs(a - b) for a, b in zip(stored["answer"], FOUND[model_type]["base"], strict=True))
    assert far > 0.05, "the adapters do nothing"


@pytest.mark.parametrize(("model_type", "placement"), CASES)
def test_places_and_count_are_the_librarys(model_type: str, placement: str) -> None:
    _, shape, _ = built(model_type)
    stored = FOUND[model_type][placement]
    assert sorted(sites(shape, placement).values()) == stored["sites"]
    values = SPEC.require(shape, {"placement": placement, "bottleneck": made.WIDTH})
    assert SPEC.formula(shape, values).trainable == stored["trained"]


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("houlsby", "double_seq_bn", {"bert", "roberta", "llama", "mistral", "gpt2"}),
        ("pfeiffer", "seq_bn", set()),
        ("parallel", "par_bn", {"bert", "roberta"}),
    ],
)
def test_how_they_differ_from_the_papers(ours: str, theirs: str, same: set[str]) -> None:
    """Only T5 has cross-attention; after a norm on the stream, stream and input of the feed-forward part are one."""
    for model_type in made.MODELS:
        kind = made.MODELS[model_type][0]
        first, second = (made.answer(adapted(model_type, each), kind) for each in (ours, theirs))
        assert torch.allclose(first, second, atol=1e-9) == (model_type in same), model_type


def test_elsewhere_they_are_refused_with_the_reason() -> None:
    for shape in (get_model("qwen2.5-0.5b").shape, get_model("gemma-2-2b").shape):
        for placement in bottleneck.LIBRARY:
            with pytest.raises(BadInput, match=facts(placement, "compared")):
                SPEC.require(shape, {"placement": placement})


FOLDERS: dict[str, Any] = json.loads(saved.FILE.read_text("utf-8"))


def classifier() -> tuple[Any, ModelShape]:
    model = saved.classifier(None)
    return model, meta.read_shape(built("bert")[0], model.config, "encoder", "bert", "bert")


def opened(folder: Path) -> tuple[Any, str]:
    """The model with what a folder holds, and its kind."""
    model_type, _, placement = folder.name.partition("-")
    if folder.name == saved.CLASSIFIER:
        (model, shape), task, kind = classifier(), "SEQ_CLS", "encoder"
        made.fill(model, keep="bert.")  # another head than the folder's
        made.fill(model.bert, keep="nothing")
        made.fill(model, keep="classifier")
    else:
        model, shape, task = built(model_type)
        kind = made.MODELS[model_type][0]
    content = library_files.read_content(folder)
    values = SPEC.require(shape, library_files.values_of(content, shape))
    assert values["placement"] == placement
    assert values["bottleneck"] == made.WIDTH
    SPEC.apply(model, shape, values, task)  # type: ignore[arg-type]
    library_files.put_adapter(model.double(), shape, folder, task)  # type: ignore[arg-type]
    return model, kind


@pytest.mark.parametrize("name", [f"{model}-{placement}" for model, placement, _ in saved.WHOLE])
def test_its_folders_answer_as_it_does(name: str) -> None:
    model, kind = opened(saved.FOLDER / name)
    model_type, _, placement = name.partition("-")
    wanted = FOLDERS["classifier"] if name == saved.CLASSIFIER else FOUND[model_type][placement]["answer"]
    assert saved.logits(model, kind) == pytest.approx(wanted, rel=0, abs=CLOSE[model_type])


@pytest.mark.parametrize("file", [library_files.WEIGHTS[0], library_files.HEAD[0]])
def test_a_tensor_turned_round_is_named_as_in_the_folder(file: str, tmp_path: Path) -> None:
    folder = tmp_path / saved.CLASSIFIER
    shutil.copytree(saved.FOLDER / saved.CLASSIFIER, folder)
    name, before, after = tiny.turned_round(folder / file)
    shapes = [" × ".join(map(str, each)) for each in (after, before)]
    with pytest.raises(BadInput, match=facts(library_files.bare(name), *shapes)):
        opened(folder)


@pytest.mark.parametrize(("model_type", "placement"), CASES)
def test_what_is_written_is_what_it_writes(model_type: str, placement: str, tmp_path: Path) -> None:
    """Config, files and names are equal to the library's own; its tensors are known by the answers above."""
    from safetensors.torch import load_file

    folder = written(adapted(model_type, placement), built(model_type)[1], placement, tmp_path / "made")
    wanted = FOLDERS["configs"][f"{model_type}-{placement}"]
    content = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert {**content, "model_name": ""} == wanted
    state = load_file(str(folder / "adapter.safetensors"))
    assert sorted(state) == FOLDERS["names"][f"{model_type}-{placement}"]
    pickled = torch.load(folder / "pytorch_adapter.bin", weights_only=True)
    assert pickled.keys() == state.keys()
    assert all(torch.equal(pickled[name], state[name]) for name in state)


def written(
    model: Any, shape: ModelShape, placement: str, folder: Path, labels: tuple[str, ...] = ()
) -> Path:
    SPEC.save(model, folder / "ours")
    values = {
        "placement": placement,
        "bottleneck": made.WIDTH,
        "nonlinearity": made.NONLINEARITY,
        "scale": made.SCALE,
    }
    complete = SPEC.require(shape, values)
    theirs = folder / f"{shape.model_type}-{placement}{'-head' * bool(labels)}"
    library_files.write_files(theirs, folder / "ours", shape, complete, "here", "a-base", labels)
    return theirs


def test_a_round_trip_of_a_classifier(tmp_path: Path) -> None:
    model, shape = classifier()
    SPEC.apply(
        model,
        shape,
        SPEC.require(shape, {"placement": "seq_bn", "bottleneck": 4, "init_std": 0.3}),
        "SEQ_CLS",
    )
    values = {"placement": "seq_bn", "bottleneck": 4, "nonlinearity": "gelu"}
    before = saved.logits(model.double(), "encoder")
    SPEC.save(model, tmp_path / "ours")
    folder = tmp_path / saved.CLASSIFIER
    library_files.write_files(
        folder, tmp_path / "ours", shape, SPEC.require(shape, values), "here", "b", ("bad", "good", "so so")
    )
    assert library_files.labels_of(folder) == ("bad", "good", "so so")
    head = json.loads((folder / "head_config.json").read_text("utf-8"))
    recorded = json.loads((saved.FOLDER / saved.CLASSIFIER / "head_config.json").read_text("utf-8"))
    assert head.keys() == recorded.keys()
    assert head["model_class"] == recorded["model_class"] == "BertForSequenceClassification"
    torch.manual_seed(1)
    assert saved.logits(*opened(folder)) == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize(
    ("placement", "same", "elsewhere"),
    [("houlsby", "double_seq_bn", "t5"), ("parallel", "par_bn", "llama"), ("pfeiffer", None, "bert")],
)
def test_the_papers_placements_are_written_where_they_are_the_same(
    placement: str, same: str | None, elsewhere: str
) -> None:
    """Which are the same is measured in ``test_how_they_differ_from_the_papers``."""
    values = SPEC.complete(built("bert")[1], {"placement": placement})
    if same is not None:
        content = library_files.content_of(built("bert")[1], values, "here", "BertModel", "")
        assert library_files.values_of(content, built("bert")[1])["placement"] == same
    with pytest.raises(BadInput, match=facts(placement)):
        library_files.content_of(built(elsewhere)[1], values, "here", "X", "")


@pytest.mark.parametrize("name", saved.OTHERS)
def test_what_is_not_built_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(BadInput, match=facts("adapters library", "can open")):
        library_files.values_of(FOLDERS["others"][name], built("bert")[1])


def changed(**settings: Any) -> dict[str, Any]:
    content: dict[str, Any] = FOLDERS["configs"]["bert-seq_bn"]
    return {**content, "config": {**content["config"], **settings}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"leave_out": [0]}, "skips some layers"),
        ({"dropout": 0.1}, "dropout"),
        ({"reduction_factor": {"0": 8, "default": 16}}, "differs by layer"),
        ({"non_linearity": "gelu_new"}, "function gelu_new"),
        ({"scaling": 2.0}, "multiplied by 2"),
        ({"original_ln_before": False}, "custom placement"),
    ],
)
def test_a_setting_that_is_not_built_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        library_files.values_of(changed(**settings), built("bert")[1])


def test_widths_come_back() -> None:
    """The library rounds the quotient down, so that not every factor gives the width back."""
    shape = get_model("bert-base").shape
    for width in range(1, 800):
        values = SPEC.require(shape, {"placement": "seq_bn", "bottleneck": width})
        content = library_files.content_of(shape, values, "here", "BertModel", "")
        assert library_files.values_of(content, shape)["bottleneck"] == width


def test_another_models_folder_is_refused() -> None:
    with pytest.raises(BadInput, match=facts("bert", 16)):
        library_files.values_of(FOLDERS["configs"]["bert-seq_bn"], get_model("roberta-base").shape)


def copied(name: str, tmp_path: Path) -> Path:
    folder = tmp_path / name
    shutil.copytree(saved.FOLDER / name, folder)
    return folder


def test_damaged_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied("llama-par_bn", tmp_path)
    state = torch.load(folder / "pytorch_adapter.bin", weights_only=True)
    state.pop(next(iter(state)))
    torch.save(state, folder / "pytorch_adapter.bin")
    with pytest.raises(BadInput, match=r"layers\.0"):
        opened(folder)
    (folder / "pytorch_adapter.bin").write_bytes(b"no zip")
    with pytest.raises(BadInput, match=r"pytorch_adapter\.bin cannot be read"):
        opened(folder)
    (folder / "pytorch_adapter.bin").unlink()
    with pytest.raises(BadInput, match=r"neither adapter\.safetensors nor"):
        opened(folder)


def test_a_pickle_is_read_as_tensors_alone_and_not_in_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("llama-par_bn", tmp_path)
    witness = tmp_path / "ran"

    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (witness,)

    torch.save(
        {"model.layers.0.output_adapters.adapters.here.adapter_up.bias": Harm()},
        folder / "pytorch_adapter.bin",
    )
    with pytest.raises(BadInput, match="cannot be read"):
        opened(folder)
    assert not witness.exists()
    monkeypatch.setattr(asking, "class_is_on", lambda: True)
    with pytest.raises(BadInput, match=facts("class", "adapter.safetensors")):
        opened(saved.FOLDER / "llama-par_bn")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_zip_of_another_method_is_not_unpacked(method: int, damaged: bool, tmp_path: Path) -> None:
    """LZMA takes as much memory as the file asks for, and its own error for what is damaged."""
    with zipfile.ZipFile(tmp_path / "it.zip", "w", method) as archive:
        archive.writestr(
            library_files.CONFIG, (saved.FOLDER / "llama-par_bn" / library_files.CONFIG).read_bytes()
        )
    if damaged:
        content = bytearray((tmp_path / "it.zip").read_bytes())
        for at in range(60, 90):
            content[at] ^= 0xFF
        (tmp_path / "it.zip").write_bytes(content)
    with pytest.raises(BadInput, match="deflate"):
        library_files.read_content(tmp_path / "it.zip")
