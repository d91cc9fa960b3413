"""A model of one's own, from its folder: counted, drawn, simulated, trained, saved and loaded again, whatever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peft_lab import machine
from peft_lab.counting.count import count
from peft_lab.drawing import draw_block
from peft_lab.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models import catalogue, loading, own
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.runs import admission, course
from peft_lab.runs.spec import RunRequest
from peft_lab.training import batches
from peft_lab.training.precision import Masters, cast_added
from peft_lab.workers import inspector
from tests.drawing.geometry import read
from tests.export.conftest import byte_tokenizer
from tests.models import homemade

STEPS = 2


@pytest.fixture(scope="module", autouse=True)
def in_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of these tests' own, nothing asked of other processes, and the same precision everywhere."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(inspector, "ask", lambda function, *given: function(*given))
        patch.setattr(machine, "compute_dtype", lambda: torch.float32)
        yield


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file for each kind of task."""
    place = tmp_path_factory.mktemp("rows")
    made = {
        "encoder": [{"text": f"row {n}", "label": ("bad", "good")[n % 2]} for n in range(20)],
        "writes": [{"prompt": f"say {n}", "completion": f"it is {n}"} for n in range(20)],
    }
    for name, lines in made.items():
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    files = {name: str(place / f"{name}.jsonl") for name in made}
    return {**files, "vision": homemade.images(place / "images")}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(homemade.folder("bert", tmp_path_factory.mktemp("models") / "bert"))


def asked(folder: Path | str, rows: dict[str, str]) -> RunRequest:
    return RunRequest(
        str(folder), "lora", "own", {"r": 2}, steps=2, batch=2, eval_rows=2, own_data=rows["encoder"]
    )


def without(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def half_of_the_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def shards_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def broken_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{")


def an_adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("model.safetensors"), "has a config and no weights"),
        (pickled, "pickles, which may run code"),
        (half_of_the_shards, "incomplete: model-00002-of-00002.safetensors, which its index names"),
        (shards_elsewhere, r"incomplete: \.\./model.safetensors"),
        (broken_index, "index of the weights in .* cannot be read"),
        (an_adapter, "holds an adapter and no model"),
        (without("tokenizer.json", "tokenizer_config.json"), "has weights but no tokenizer"),
        (without("tokenizer.json"), "has weights but no tokenizer"),
    ],
)
def test_what_lacks_something_is_refused_before_anything_runs(
    change: Callable[[Path], None], said: str, bert: Path, tmp_path: Path, rows: dict[str, str]
) -> None:
    folder = tmp_path / "models" / "mine"
    shutil.copytree(bert, folder)
    assert own.lacks(str(folder)) is None
    change(folder)
    with pytest.raises(BadInput, match=said) as caught:
        asked(folder, rows).complete()
    assert caught.value.field == "model" and "\n" not in str(caught.value)
    assert catalogue.untrainable(resolve(str(folder))) == str(caught.value)


def test_bytes_need_no_vocabulary(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "byt5"
    shutil.copytree(bert, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert own.lacks(str(folder)) is None


def test_weights_of_another_model_are_not_filled_up_with_random_numbers(
    bert: Path, tmp_path: Path, rows: dict[str, str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name: tensor for name, tensor in tensors.items() if "layer.1." not in name and "pooler" not in name
    }
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"are not all those of its config: .*layer.1.* would be random"):
        course.prepare(asked(folder, rows).complete())


def test_a_tensor_in_another_shape_is_named_with_both_and_a_head_for_other_classes_is_not(
    bert: Path, tmp_path: Path, rows: dict[str, str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    tensors = load_file(folder / "model.safetensors")
    prefix = "" if any(name.startswith("encoder.") for name in tensors) else "bert."
    width = tensors[f"{prefix}embeddings.word_embeddings.weight"].shape[1]
    save_file(
        {**tensors, "classifier.weight": torch.ones(7, width)}, folder / "model.safetensors", {"format": "pt"}
    )
    course.prepare(asked(folder, rows).complete())
    name = f"{prefix}encoder.layer.1.intermediate.dense.weight"
    out, inner = tensors[name].shape
    save_file({**tensors, name: tensors[name].T.contiguous()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        BadInput, match=rf"layer\.1\.intermediate\.dense\.weight' as {inner} × {out}, .* {out} × {inner}"
    ):
        course.prepare(asked(folder, rows).complete())


def test_a_tokenizer_of_another_model_is_told(bert: Path, tmp_path: Path, rows: dict[str, str]) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"row {number}" for number in range(20)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BadInput, match="its weights know 260 tokens: the two do not belong together"):
        course.prepare(asked(folder, rows).complete())


def test_a_tokenizer_made_of_nothing_is_none(bert: Path, tmp_path: Path) -> None:
    """transformers makes one of a config alone, and every text becomes unknown words."""
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    with pytest.raises(BadInput, match=r"no tokenizer's vocabulary|No tokenizer could be loaded"):
        loading.load_tokenizer(str(tmp_path))


def test_an_id_in_the_cache_is_trained_without_a_connection(
    bert: Path, tmp_path: Path, rows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's own client lays files down under ``HF_HOME``."""
    from huggingface_hub import constants

    commit = "0" * 40
    place = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(bert, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    name = "somebody/tiny"
    assert own.lacks(name) is None and own.has_weights(name)
    (place / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(
        BadInput, match="not in the cache of this machine and the Hugging Face Hub was not reached"
    ):
        own.require(name)


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", homemade.CONFIGS)
def test_a_folder_is_counted_drawn_simulated_trained_and_loaded_again(
    name: str, tmp_path: Path, rows: dict[str, str]
) -> None:
    import torch

    folder = homemade.folder(name, tmp_path / name)
    entry, method = resolve(folder), get_method("lora")
    assert entry.live and entry.kind == homemade.CONFIGS[name][0]
    counted = count(folder, "lora", {"r": 2}, 2 if entry.kind in CLASSIFIERS else None)
    picture = draw_block(entry.shape, method.parts(entry.shape, method.complete(entry.shape, {"r": 2})))
    assert read(picture.svg).problems() == []

    own = rows[entry.kind if entry.kind in CLASSIFIERS else "writes"]
    spec = RunRequest(
        folder,
        "lora",
        "own",
        {"r": 2},
        steps=STEPS,
        batch=4,
        eval_rows=4,
        seed=1,
        learning_rate=0.01,
        own_data=own,
    ).complete()
    assert admission.needed_bytes(spec.to_dict(), "cpu") > 4 * entry.parameters
    ready = course.prepare(spec)
    masters = Masters(ready.model)
    optimizer = course.optimizer_of(ready, masters)
    losses = [made.loss for made in course.steps(ready, masters, optimizer)]
    assert len(losses) == STEPS and all(loss > 0 for loss in losses)
    trained = sum(p.numel() for p in ready.model.parameters() if p.requires_grad)
    assert trained == counted.trainable + counted.head
    course.settle(ready, masters)
    method.save(ready.model, tmp_path / "adapter")
    fresh = course.fresh_base(spec, ready.task)
    again = method.load(fresh.model, tmp_path / "adapter")
    cast_added(again, fresh.dtype)
    batch = batches.collate(ready.rows[:4], 0, "cpu")
    with torch.no_grad():
        untrained = course.fresh_base(spec, ready.task).model
        said = [batches.loss_of(model.eval(), batch) for model in (ready.model, again, untrained)]
    assert said[0] == said[1] != said[2]
    scored = course.examiner(ready).evaluate(again, ready.test)
    assert scored.rows == len(ready.test)
