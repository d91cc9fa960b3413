"""A model of one's own, from its folder: counted, drawn, simulated, trained, saved and loaded again, whatever it is."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from peft_lab.core import inspector, machine
from peft_lab.core.errors import BadInput
from peft_lab.drawing.block import draw_block
from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count
from peft_lab.models import loading, own
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.runs import admission, course
from peft_lab.runs.spec import RunRequest
from peft_lab.studies.serving import ServedLora
from peft_lab.training import batches
from peft_lab.training.step import Masters, cast_added
from tests.drawing.geometry import read
from tests.models import homemade
from tests.prose import facts
from tests.takeaway.conftest import byte_tokenizer

STEPS = 2


@pytest.fixture(scope="module", autouse=True)
def in_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of these tests' own, nothing asked of other processes, and the same precision everywhere."""
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


def indexed(file: str) -> Callable[[Path], None]:
    """An index that names a pickle, which lies there."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / file).parent.mkdir(exist_ok=True)
        malice(folder / file)
        index = {"metadata": {}, "weight_map": dict.fromkeys(tensor_names(), file)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def linked_shards(folder: Path) -> None:
    half_of_the_shards(folder)
    for number in (1, 2):
        shard = folder / f"model-0000{number}-of-00002.safetensors"
        shard.unlink(missing_ok=True)
        malice(folder.parent / "elsewhere.bin")
        shard.symlink_to(folder.parent / "elsewhere.bin")


def named_in_the_config(folder: Path) -> None:
    malice(folder / "adapter_model.bin")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "transformers_weights": "adapter_model.bin"}))


def an_adapter_beside(folder: Path) -> None:
    malice(folder / "adapter_model.bin")
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["query"], "base_model_name_or_path": "no/where"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def tensor_names() -> list[str]:
    return list(homemade.model("bert").state_dict())


def malice(path: Path) -> None:
    """What transformers and PEFT hand to ``torch.load``; opened, it would be weights like any."""
    torch.save(homemade.model("bert").state_dict(), path)


def broken_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{")


def an_adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("model.safetensors"), "no weights"),
        (pickled, "pickles"),
        (half_of_the_shards, "model-00002-of-00002.safetensors"),
        (shards_elsewhere, "'../model.safetensors'"),
        (indexed("pytorch_model.bin"), "'pytorch_model.bin'"),
        (indexed("below/model.safetensors"), "'below/model.safetensors'"),
        (linked_shards, "'model-00001-of-00002.safetensors'"),
        (named_in_the_config, "transformers_weights"),
        (an_adapter_beside, "adapter_config.json"),
        (broken_index, "index of.*cannot be read"),
        (an_adapter, "an adapter"),
        (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
        (without("tokenizer.json"), "no tokenizer"),
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
    assert resolve(str(folder)).lacking == str(caught.value)


@pytest.mark.parametrize(
    "change", [indexed("pytorch_model.bin"), named_in_the_config], ids=lambda each: each.__name__
)
def test_no_loader_opens_a_pickle(
    change: Callable[[Path], None], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the folder is looked at first, nor where a library is led to one by what was not foreseen."""
    opened: list[object] = []
    monkeypatch.setattr(torch, "load", lambda *given, **_: opened.append(given))
    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    change(folder)
    with pytest.raises(BadInput) as caught:
        loading.load_base(str(folder))
    assert caught.value.field == "model"
    monkeypatch.setattr(own, "astray", lambda _: None)
    with pytest.raises(BadInput, match=r"\.bin is a pickle"):
        loading.load_base(str(folder))
    assert opened == [] and torch.load("x") is None  # which is there again afterwards


def test_the_index_of_an_id_is_looked_at_before_what_it_names_is_fetched(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(bert, tmp_path / "hub", monkeypatch, indexed("pytorch_model.bin"))
    assert "pytorch_model.bin" in str(own.lacks("somebody/tiny", reached=True))
    with pytest.raises(BadInput, match=r"'pytorch_model\.bin', but there is no such"):
        loading.load_base("somebody/tiny")


def test_links_inside_the_cache_of_the_hub_are_its_own(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are links to blobs, and its folder may be named as any."""

    def linked(folder: Path) -> None:
        blobs, name = folder.parents[1] / "blobs", "model-00001-of-00001.safetensors"
        blobs.mkdir()
        (folder / "model.safetensors").rename(blobs / "abc")
        (folder / name).symlink_to(Path("../../blobs/abc"))
        index = {"metadata": {}, "weight_map": dict.fromkeys(tensor_names(), name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    folder = cached(bert, tmp_path / "hub", monkeypatch, linked)
    for name in ("somebody/tiny", str(folder)):
        assert own.lacks(name) is None
        loading.load_base(name)


@pytest.mark.parametrize("how", ["method", "served"])
def test_an_adapter_without_safetensors_is_not_opened(how: str, tmp_path: Path) -> None:
    """PEFT takes ``adapter_model.bin`` where there is nothing else, as in a folder that was adopted as a run."""
    method, model = get_method("lora"), homemade.model("bert")
    entry = resolve(homemade.folder("bert", tmp_path / "model"))
    adapted = method.apply(model, entry.shape, method.complete(entry.shape, {"r": 2}), "FEATURE_EXTRACTION")
    method.save(adapted, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    malice(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(BadInput, match=r"adapter_model\.bin is a pickle"):
        if how == "method":
            method.load(homemade.model("bert"), tmp_path / "adapter")
        else:
            runs = {"mine": SimpleNamespace(folder=tmp_path, adapter=tmp_path / "adapter")}
            ServedLora.attach(SimpleNamespace(runs=runs), homemade.model("bert"))  # type: ignore[arg-type]


LOADING = ("from_pretrained", "load_adapter", "load_peft_weights")


def test_every_loader_of_weights_is_kept_from_pickles() -> None:
    """Whoever adds one puts it under :func:`loading.no_pickles`; what is made by the lab itself is read as tensors."""
    package = Path(loading.__file__).parents[1]
    loaders, unpickled = set(), set()
    for file in package.rglob("*.py"):
        text = file.read_text("utf-8")
        if not any(word in text for word in (*LOADING, "torch.load(")):
            continue
        tree = ast.parse(text)
        name = file.relative_to(package).as_posix()
        if name.startswith("scratch/"):  # programs to be read, run by hand on a folder of one's own
            assert text.count("torch.load(") == text.count("weights_only=True")
            continue
        kept = [
            each
            for each in ast.walk(tree)
            if isinstance(each, ast.With) and "no_pickles()" in ast.unparse(each)
        ]
        inside = {id(call) for block in kept for call in ast.walk(block)}
        for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
            called = ast.unparse(call.func)
            method = called.rpartition(".")[2]
            if method in LOADING and id(call) not in inside:
                loaders.add((name, called))
            if called == "torch.load":
                assert "weights_only=True" in ast.unparse(call), name
                unpickled.add(name)
    read = {
        ("models/loading.py", "AutoTokenizer.from_pretrained"),
        ("models/loading.py", "AutoConfig.from_pretrained"),
        ("models/own.py", "AutoConfig.from_pretrained"),
    }
    pinned = {
        ("models/assets/dequantise.py", f"{kind}.from_pretrained")
        for kind in ("LlamaForCausalLM", "AutoTokenizer")
    }
    assert loaders == read | pinned
    assert unpickled == {"methods/shared/adapters_library.py", "takeaway/ranks.py", "runs/checkpoints.py"}


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
    with pytest.raises(BadInput, match=facts("config", "layer.1")):
        course.prepare(asked(folder, rows).complete())


def test_a_tensor_in_another_shape_is_named_with_both_and_a_head_for_other_classes_is_not(
    bert: Path, tmp_path: Path, rows: dict[str, str]
) -> None:
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
    with pytest.raises(BadInput, match="260 tokens"):
        course.prepare(asked(folder, rows).complete())


def test_a_tokenizer_made_of_nothing_is_none(bert: Path, tmp_path: Path) -> None:
    """transformers makes one of a config alone, and every text becomes unknown words."""
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    with pytest.raises(BadInput, match="tokenizer"):
        loading.load_tokenizer(str(tmp_path))


def cached(
    model: Path, hub: Path, patch: pytest.MonkeyPatch, change: Callable[[Path], None] = lambda _: None
) -> Path:
    """The folder of somebody/tiny in a cache, as the hub's own client lays files down under ``HF_HOME``."""
    from huggingface_hub import constants

    commit = "0" * 40
    place = hub / "models--somebody--tiny"
    shutil.copytree(model, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    patch.setattr(constants, "HF_HUB_CACHE", str(hub))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    change(place / "snapshots" / commit)
    return place / "snapshots" / commit


def test_an_id_in_the_cache_is_trained_without_a_connection(
    bert: Path, tmp_path: Path, rows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, name = cached(bert, tmp_path / "hub", monkeypatch), "somebody/tiny"
    assert own.lacks(name) is None and own.has_weights(name)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=facts("cache", "not reached")):
        own.require(name)


@pytest.mark.slow
@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", homemade.CONFIGS)
def test_a_folder_is_counted_drawn_simulated_trained_and_loaded_again(
    name: str, tmp_path: Path, rows: dict[str, str]
) -> None:
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
