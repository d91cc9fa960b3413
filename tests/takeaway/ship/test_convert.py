"""An adapter's files for other engines are read back as the engine reads them, and a wrong one is noticed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from bench import engines as bench
from peft_lab.core.errors import BadInput
from peft_lab.models.assets import store as assets
from peft_lab.models.loading import load_tokenizer
from peft_lab.takeaway.ship import convert, engines, gguf_files
from peft_lab.takeaway.ship.adapter import CONFIG, WEIGHTS, read
from peft_lab.takeaway.ship.factors import Factors
from tests.conftest import missing

pytestmark = pytest.mark.weights  # the tiny models have the shipped tokenizer
ENGINE = Path(__file__).parents[3] / ".venv-engine"
Q = "model.layers.1.self_attn.q_proj"


class Made:
    """A tiny model and its adapters, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tuned = folder, dict[tuple[str, str], Any]()

    def __call__(self, model: str, kind: str) -> tuple[Path, Path]:
        """Return the folders of the base and of an adapter of this kind."""
        base, adapter = self.folder / f"base {model}", self.folder / f"{model} {kind}"
        if (model, kind) not in self.tuned:
            narrow = {} if model == "gpt2" else {"hidden_size": 64}
            tuned = bench.adapt(bench.tiny(model, base, **narrow), bench.kinds_of(model)[kind], adapter)
            self.tuned[model, kind] = tuned
        return base, adapter


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def written(made: Made, model: str, kind: str, engine: str, out: Path) -> convert.Shipped:
    base, adapter = made(model, kind)
    return convert.write(read(adapter), str(base), engine, out)


@given(
    heads=st.integers(1, 6), half=st.integers(1, 8), columns=st.integers(1, 5), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=60)
def test_rows_come_back_to_their_places(heads: int, half: int, columns: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(heads * half * 2, columns)).astype(np.float32)
    there = gguf_files.reorder_rows(matrix, heads)
    assert (gguf_files.restore_rows(there, heads) == matrix).all()
    per_head, new = matrix.reshape(heads, 2 * half, columns), there.reshape(heads, 2 * half, columns)
    for row in range(half):  # transformers rotates i with i + d/2, llama.cpp 2i with 2i + 1
        assert (new[:, 2 * row] == per_head[:, row]).all()
        assert (new[:, 2 * row + 1] == per_head[:, row + half]).all()


@pytest.mark.parametrize(
    ("kind", "scale"), [("q and v", 2.0), ("rsLoRA", 4.0), ("rank pattern", 2.0), ("last block", 2.0)]
)
def test_an_adapter_in_gguf_has_llama_cpps_names_rows_and_scale(
    kind: str, scale: float, made: Made, tmp_path: Path
) -> None:
    shipped = written(made, "llama", kind, "llama.cpp", tmp_path / "out")
    reader = gguf.GGUFReader(shipped.files[0]["path"])
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["general.architecture"].contents() == "llama"
    alpha = reader.fields["adapter.lora.alpha"].contents()
    tensors = load_file(made("llama", kind)[1] / WEIGHTS)
    a, b = (tensors[f"base_model.model.{Q}.lora_{one}.weight"].numpy() for one in "AB")
    wanted = scale * b @ a
    got = alpha / len(a) * stored["blk.1.attn_q.weight.lora_b"] @ stored["blk.1.attn_q.weight.lora_a"]
    order = wanted.reshape(4, 2, 32, 64).swapaxes(1, 2).reshape(256, 64)
    assert np.allclose(got, order, atol=1e-6) and not np.allclose(got, wanted, atol=1e-2)
    assert shipped.compared["tensors"] == len(tensors) == len(stored)
    assert shipped.compared["max_difference"] < 1e-6
    assert shipped.files[0]["bytes"] == Path(shipped.files[0]["path"]).stat().st_size


def test_rows_that_were_left_where_they_are_are_noticed(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_files, "reorder_rows", lambda matrix, heads: matrix)
    with pytest.raises(BadInput, match="differ from"):
        written(made, "llama", "q and v", "llama.cpp", tmp_path / "out")
    written(made, "qwen3", "q and v", "llama.cpp", tmp_path / "qwen")  # has no rows to reorder


@pytest.mark.parametrize("engine", ["llama.cpp", "mlx"])
def test_a_scale_that_was_left_out_is_noticed(
    engine: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Factors, "b_at", lambda self, scale: self.b)
    with pytest.raises(BadInput, match="differ from"):
        written(made, "llama", "alpha pattern", engine, tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "kind", "key", "rank"),
    [
        ("llama", "q and v", "self_attn.q_proj", 8),
        ("llama", "rank pattern", "self_attn.v_proj", 8),
        ("llama", "DoRA", "self_attn.q_proj", 8),
        ("gpt2", "q and v", "attn.c_attn", 8),
    ],
)
def test_an_adapter_for_mlx_is_transposed_under_its_names(
    model: str, kind: str, key: str, rank: int, made: Made, tmp_path: Path
) -> None:
    shipped = written(made, model, kind, "mlx", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text("utf-8"))
    stored = load_file(tmp_path / "out" / "adapters.safetensors")
    assert config["fine_tune_type"] == ("dora" if kind == "DoRA" else "lora")
    assert config["num_layers"] == 2 and key in config["lora_parameters"]["keys"]
    assert (config["lora_parameters"]["rank"], config["lora_parameters"]["scale"]) == (rank, 2.0)
    tensors = load_file(made(model, kind)[1] / WEIGHTS)
    stack = "model.h" if model == "gpt2" else "model.layers"
    source = "transformer.h" if model == "gpt2" else "model.layers"
    a = tensors[f"base_model.model.{source}.1.{key}.lora_A.weight"]
    got = stored[f"{stack}.1.{key}.lora_a"]  # MLX has one rank: a smaller one is filled with zeros
    assert got.shape[1] == rank and torch.equal(got[:, : len(a)], a.T) and not got[:, len(a) :].any()
    assert shipped.compared["max_difference"] < 1e-6
    assert (f"{stack}.1.{key}.m" in stored) == (kind == "DoRA")


@pytest.mark.parametrize(
    ("model", "kind", "engine", "named"),
    [
        ("llama", "DoRA", "llama.cpp", "magnitude"),
        ("llama", "saved head", "llama.cpp", "lm_head"),
        ("gpt2", "embeddings", "mlx", "wte"),
        ("llama", "bias of B", "mlx", "bias"),
        ("llama", "new tokens", "llama.cpp", "token"),
        ("llama", "IA3", "mlx", "IA3"),
        ("qwen3", "output head", "llama.cpp", "lm_head"),
        ("experts", "experts' maps", "mlx", "target_parameters"),
    ],
)
def test_what_a_format_cannot_hold_is_named(
    model: str, kind: str, engine: str, named: str, made: Made, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=named):
        written(made, model, kind, engine, tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "path", "name"),
    [
        ("output head", "lm_head.lora_{}.weight", "output.weight"),
        ("embeddings", "model.embed_tokens.lora_embedding_{}", "token_embd.weight"),
    ],
)
def test_lora_on_a_heads_or_an_embeddings_own_matrix_is_written(
    kind: str, path: str, name: str, made: Made, tmp_path: Path
) -> None:
    shipped = written(made, "llama", kind, "llama.cpp", tmp_path / "out")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(shipped.files[0]["path"]).tensors}
    tensors = load_file(made("llama", kind)[1] / WEIGHTS)
    a, b = (tensors[f"base_model.model.{path.format(side)}"].numpy() for side in "AB")
    assert any(one.endswith("base_layer.weight") for one in tensors)  # PEFT's copy of the base's matrix
    by_token = name == "token_embd.weight"
    assert np.array_equal(stored[f"{name}.lora_a"], a.T if by_token else a)
    assert np.array_equal(stored[f"{name}.lora_b"], b)
    written(made, "llama", kind, "mlx", tmp_path / "mlx")
    mine = load_file(tmp_path / "mlx" / "adapters.safetensors")
    assert np.array_equal(mine[f"{path.partition('.lora')[0]}.lora_a"].numpy(), a.T)


def test_starts_that_change_the_base_are_refused(made: Made, tmp_path: Path) -> None:
    base, adapter = made("llama", "q and v")
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((adapter / name).read_bytes())
    config = json.loads((tmp_path / CONFIG).read_text("utf-8"))
    (tmp_path / CONFIG).write_text(json.dumps({**config, "init_lora_weights": "pissa_niter_4"}), "utf-8")
    with pytest.raises(BadInput, match="pissa"):
        convert.write(read(tmp_path), str(base), "llama.cpp", tmp_path / "out")


def test_vllm_reads_the_folder_as_it_is_with_a_rank_that_it_knows(made: Made, tmp_path: Path) -> None:
    shipped = written(made, "llama", "rsLoRA", "vllm", tmp_path / "out")
    adapter = made("llama", "rsLoRA")[1]
    assert {Path(one["path"]).name for one in shipped.files} == {CONFIG, WEIGHTS}
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
    assert "--enable-lora" in shipped.command and "--max-lora-rank 8 " in shipped.command
    request = shipped.command.rpartition("-d '")[2].rstrip("'")
    assert json.loads(request)["model"] == "tuned"


def test_merged_weights_are_the_base_plus_the_factors(made: Made, tmp_path: Path) -> None:
    base, adapter = made("llama", "rsLoRA")
    exact = written(made, "llama", "rsLoRA", "safetensors-float32", tmp_path / "exact")
    short = written(made, "llama", "rsLoRA", "safetensors-bfloat16", tmp_path / "short")
    weights, tensors = load_file(base / "model.safetensors"), load_file(adapter / WEIGHTS)
    a, b = (tensors[f"base_model.model.{Q}.lora_{one}.weight"] for one in "AB")
    merged = load_file(tmp_path / "exact" / "model.safetensors")
    assert torch.allclose(merged[f"{Q}.weight"], weights[f"{Q}.weight"] + 4.0 * b @ a, atol=1e-6)
    assert exact.compared["max_difference"] == 0
    assert 0 < short.compared["max_difference"] < float(merged[f"{Q}.weight"].abs().max()) / 256
    assert load_file(tmp_path / "short" / "model.safetensors")[f"{Q}.weight"].dtype == torch.bfloat16
    assert (tmp_path / "exact" / "tokenizer.json").exists()


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 500, 40, 7]])).logits


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama"])
def test_a_merged_gguf_file_is_the_tuned_model_to_transformers_own_reader(
    model: str, made: Made, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    shipped = written(made, model, "q and v", "gguf-f32", tmp_path / "out")
    assert shipped.compared["max_difference"] == 0
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32
    )
    assert torch.allclose(logits_of(loaded.eval()), logits_of(made.tuned[model, "q and v"]), atol=1e-4)


@pytest.mark.slow
def test_for_ollama_the_merged_model_lies_beside_its_modelfile(made: Made, tmp_path: Path) -> None:
    written(made, "llama", "q and v", "ollama", tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"Modelfile", "model.gguf"}


def test_ollamas_modelfile_has_the_turn_the_system_message_and_the_stops() -> None:
    text = convert.modelfile(load_tokenizer(str(assets.path("smollm2-135m"))))
    assert text.startswith("FROM ./model.gguf\n")
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM, trained by Hugging Face"""' in text
    assert "<|im_start|>user\n{{ .Prompt }}<|im_end|>" in text
    assert 'PARAMETER stop "<|im_end|>"' in text and text.count('"<|im_end|>"') == 1


@pytest.mark.slow
def test_loha_becomes_lora_at_the_rank_that_it_has_and_loses_below(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(
        made, "llama", "LoHa", "lora", tmp_path / "whole"
    )  # two of rank 4, multiplied: at most 16
    monkeypatch.setattr(convert, "LORA_RANK", 4)
    part = written(made, "llama", "LoHa", "lora", tmp_path / "part")
    assert whole.compared["lost"] < 1e-6 < 0.01 < part.compared["lost"] < 1
    assert read(tmp_path / "part").config["r"] == 4
    with pytest.raises(BadInput, match="IA3"):
        written(made, "llama", "IA3", "lora", tmp_path / "none")


def test_an_engine_that_is_not_installed_says_which_line_installs_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="make engines"):
        next(engines.answers("vllm", sys.executable, tmp_path, [None], [[1]]))


@pytest.fixture
def llama_cpp(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Llama.cpp in its folder (make engine); runs kinds of adapters on a tiny model."""
    if not (ENGINE / "xllamacpp").is_dir():
        missing(f"no llama.cpp for {Path(sys.executable).name}: make engine")
    monkeypatch.setenv("PYTHONPATH", str(ENGINE))
    pythons = {"llama.cpp": Path(sys.executable)}
    return lambda model, *kinds: list(bench.matrix(pythons, [model], kinds.__contains__, lambda _: None))


RUNS = {
    "llama": ("rsLoRA", "rank pattern", "output head", "embeddings"),
    "experts": ("q and v",),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", RUNS)
def test_llama_cpp_answers_as_peft_does(model: str, llama_cpp: Callable[..., list[dict[str, Any]]]) -> None:
    for row in llama_cpp(model, *RUNS[model]):
        assert row["did"] == "runs", row
        assert row["equal"] == len(bench.PROMPTS) and row["difference"] < bench.CLOSE
