"""The engines' rules: each has its source, each PEFT type a verdict at each engine, and no config breaks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.advise.recommend import Recommendation, served
from peft_lab.advise.situation import Situation
from peft_lab.atlas import all_types, entries, rows
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.takeaway.ship.adapter import Adapter, StoredTensor
from peft_lab.takeaway.ship.passport import (
    MADE,
    STATES,
    Seen,
    Verdict,
    _conditions,
    _file,
    by_config,
    engines,
    passport,
    served_by,
)

LLAMA = get_model("llama-3.2-3b")
MISTRAL = get_model("mistral-7b")
PLAIN = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
}
ENGINES = ("peft", "vllm", "sglang", "llama.cpp", "ollama", "mlx", "tgi", "lorax")


def no_file(name: str) -> bytes:
    raise AssertionError(name)


def made(
    config: Mapping[str, Any] | None = None,
    *,
    kinds: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj"),
    prefix: str = "base_model.model.",
    model: Any = LLAMA,
    layers: int | None = None,
    rank: int = 8,
    more: Mapping[str, tuple[int, ...]] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Adapter:
    tensors = {}
    for layer in range(model.shape.num_layers if layers is None else layers):
        for kind in kinds:
            path = f"model.layers.{layer}.{kind}"
            group = next(group for group in model.shape.groups if path in group.paths)
            tensors[f"{prefix}{path}.lora_A.weight"] = StoredTensor((rank, group.in_features), "F32")
            tensors[f"{prefix}{path}.lora_B.weight"] = StoredTensor((group.out_features, rank), "F32")
    tensors |= {name: StoredTensor(shape, "F32") for name, shape in (more or {}).items()}
    held = dict(files or {})
    return Adapter("made", {**PLAIN, "r": rank, **(config or {})}, tensors, tuple(held), held.__getitem__)


def of(adapter: Adapter, base: Any = LLAMA) -> dict[str, Verdict]:
    return {verdict.engine: verdict for verdict in passport(adapter, base)}


def test_the_engines_and_their_sources() -> None:
    assert tuple(engines()) == ENGINES
    for engine in _file().values():
        assert engine.version and engine.read_in and engine.address.startswith("https://github.com/"), (
            engine.name
        )
        assert engine.rules
        for rule in engine.rules:
            assert rule.when in _conditions(), rule.when
            assert rule.file and rule.symbol and rule.what, (engine.name, rule.when)
            assert rule.verdict in STATES
            if rule.verdict == "refused" and rule.change == "":
                assert rule.words or rule.when in ("aLoRA", "larger than the base"), (engine.name, rule.when)
    unused = set(_conditions()) - {rule.when for engine in _file().values() for rule in engine.rules}
    assert unused == {"type that merges"}


def test_pefts_types_are_those_of_this_peft_and_of_the_atlas() -> None:
    unknown = _conditions()["type that PEFT does not have"]
    merges = _conditions()["type that merges"]
    for entry in all_types().values():
        seen = Seen(Adapter("x", {"peft_type": entry.type}, {}, (), no_file), None)
        assert unknown(seen) is None, entry.type
        assert (merges(seen) is not None) == bool(rows.probed_value(entry.name, "merges")), entry.type
    assert by_config({"peft_type": "BITFIT"})[0].verdict == "refused"


@pytest.mark.parametrize("name", sorted(entries()))
def test_each_type_has_a_verdict_at_each_engine(name: str) -> None:
    config = entries()[name].counted_config(LLAMA.shape)
    found = by_config(config, LLAMA)
    assert tuple(verdict.engine for verdict in found) == ENGINES
    for verdict in found:
        assert verdict.verdict in STATES and verdict.reasons, verdict.engine
        assert all(
            reason.where and reason.source and "{detail}" not in reason.what for reason in verdict.reasons
        )
        if verdict.verdict == "change":
            assert verdict.change
        if verdict.change in tuple(MADE)[-2:]:
            assert rows.probed_value(name, "merges") is not False, (
                "what cannot be merged is not offered merged"
            )
    assert all(engine.title in served_by(config, LLAMA) for engine in engines().values())


W = "wrong"
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "rsLoRA": ({"config": {"use_rslora": True}}, {"vllm": "runs", "sglang": W, "tgi": "runs", "llama.cpp": "change"}),
    "alphas": ({"config": {"alpha_pattern": {"v_proj": 4}}}, {"vllm": "runs", "sglang": W, "tgi": W, "lorax": W}),
    "ranks": (
        {"config": {"rank_pattern": {"v_proj": 4}}, "more": {
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": (4, 3072),
            "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": (8192, 4),
            "base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight": (4, 3072),
            "base_model.model.model.layers.0.mlp.gate_proj.lora_B.weight": (8192, 4)}},
        {"vllm": "runs", "sglang": "change", "tgi": W, "lorax": W, "mlx": "change", "llama.cpp": "change"},
    ),
    "DoRA": ({"config": {"use_dora": True}}, {"vllm": "change", "sglang": "change", "tgi": W, "lorax": W}),
    "bias of B": ({"config": {"lora_bias": True}}, {"vllm": "change", "tgi": W, "lorax": W, "mlx": "change"}),
    "biases": ({"config": {"bias": "lora_only"}}, {"vllm": "change", "tgi": W, "lorax": W}),
    "PiSSA": ({"config": {"init_lora_weights": "pissa"}}, {"vllm": "change", "sglang": W, "tgi": W, "mlx": "change"}),
    "EVA": ({"config": {"init_lora_weights": "eva"}}, {"vllm": "runs", "sglang": "runs", "tgi": "runs"}),
    "aLoRA": ({"config": {"alora_invocation_tokens": [1, 2]}}, {"vllm": "refused", "sglang": W, "ollama": "refused"}),
    "rank 64": ({"rank": 64}, {"vllm": "change", "sglang": "runs", "tgi": "runs"}),
    "rank 1024": ({"rank": 1024}, {"vllm": "change", "peft": "runs"}),
    "rank 4": ({"rank": 4}, {"vllm": "runs", "tgi": "unknown", "lorax": W}),
    "q alone": ({"kinds": ("self_attn.q_proj",)}, {"sglang": "change", "vllm": "runs", "lorax": "runs"}),
    "v alone": ({"kinds": ("self_attn.v_proj",)}, {"sglang": "change", "vllm": "runs"}),
    "up alone": ({"kinds": ("mlp.up_proj",)}, {"sglang": "change", "vllm": "runs"}),
    "four layers": ({"layers": 4}, {"vllm": "runs", "sglang": "runs", "tgi": W, "lorax": W}),
    "no prefix": ({"prefix": ""}, {"peft": W, "vllm": "runs", "tgi": W, "lorax": W}),
    "head whole": (
        {"config": {"modules_to_save": ["lm_head"]}, "more": {"base_model.model.lm_head.weight": (128256, 3072)}},
        {"peft": "runs", "vllm": "change", "sglang": W, "llama.cpp": "change", "tgi": W},
    ),
    "classifier": (
        {"config": {"modules_to_save": ["score"]}, "more": {"base_model.model.score.weight": (2, 3072)}},
        {"peft": "runs", "vllm": "runs"},
    ),
    "embedding": (
        {"more": {"base_model.model.model.embed_tokens.lora_embedding_A": (8, 128256),
                  "base_model.model.model.embed_tokens.lora_embedding_B": (3072, 8)}},
        {"peft": "runs", "vllm": "runs", "tgi": W, "lorax": W},
    ),
    "embedding of 9 rows": (
        {"more": {"base_model.model.model.embed_tokens.lora_embedding_A": (8, 9),
                  "base_model.model.model.embed_tokens.lora_embedding_B": (3072, 8)}},
        {"vllm": "change"},
    ),
    "tokens": (
        {"more": {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (2, 3072)}},
        {"peft": "runs", "vllm": "change", "sglang": W, "llama.cpp": "change", "tgi": W},
    ),
    "added": ({"files": {"added_tokens.json": b'{"<x>": 128256}'}}, {"sglang": "change", "vllm": "runs"}),
    "not added": ({"files": {"added_tokens.json": b'{"<x>": 7}'}}, {"sglang": "runs"}),
    "head": (
        {"model": MISTRAL, "more": {
            "base_model.model.lm_head.lora_A.weight": (8, 4096),
            "base_model.model.lm_head.lora_B.weight": (MISTRAL.shape.vocab, 8),
            "base_model.model.lm_head.base_layer.weight": (MISTRAL.shape.vocab, 4096)}},
        {"llama.cpp": "change", "mlx": "change", "ollama": "change", "vllm": "runs", "lorax": "runs", "tgi": W},
    ),
    "tied head": (
        {"more": {"base_model.model.lm_head.lora_A.weight": (8, 3072),
                  "base_model.model.lm_head.lora_B.weight": (128256, 8)}},
        {"llama.cpp": "refused", "mlx": "refused", "ollama": W, "tgi": W},
    ),
    "tied embedding": (
        {"more": {"base_model.model.model.embed_tokens.lora_embedding_A": (8, 128256),
                  "base_model.model.model.embed_tokens.lora_embedding_B": (3072, 8)}},
        {"llama.cpp": "refused", "mlx": "refused", "ollama": W},
    ),
    "experts": (
        {"config": {"target_parameters": ["mlp.experts.down_proj"]}},
        {"peft": "runs", "sglang": "change", "tgi": W, "lorax": W, "mlx": "change", "vllm": "change"},
    ),
    "pattern": ({"config": {"target_modules": ".*_proj"}}, {"sglang": "change", "vllm": "runs"}),
    "replicated": ({"config": {"layer_replication": [[0, 2]]}}, {"vllm": "refused", "tgi": W}),
    "QA-LoRA": ({"config": {"use_qalora": True}}, {"vllm": "change", "sglang": "unknown", "peft": "runs"}),
    "AdaLoRA": ({"config": {"peft_type": "ADALORA"}, "more": {"base_model.model.x.lora_E": (8, 1)}},
                {"vllm": "change", "sglang": "change", "tgi": W, "peft": "runs"}),
    "another": ({"config": {"base_model_name_or_path": "meta-llama/Llama-3.1-8B"}}, {"vllm": W, "peft": W}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_setting_has_the_verdict_that_the_source_gives(case: str) -> None:
    how, wanted = CASES[case]
    found = of(made(**how), how.get("model", LLAMA))
    assert {name: found[name].verdict for name in wanted} == wanted


def test_a_rank_above_the_limit_names_the_next_limit() -> None:
    assert of(made(rank=64))["vllm"].change == "--max-lora-rank 64"
    assert of(made(rank=40))["vllm"].command.endswith("--max-lora-rank 64")
    assert of(made(rank=1024))["vllm"].change == "merged"


@pytest.mark.parametrize(("trained", "vllm"), [("llama-3.2-1b", "wrong"), ("llama-3.1-8b", "refused")])
def test_an_adapter_of_another_size_is_found_without_weights(trained: str, vllm: str) -> None:
    """A narrower matrix is copied into a corner of vLLM's buffer; a wider one does not fit."""
    adapter = made(model=get_model(trained), layers=4)
    found = of(adapter)
    assert (found["peft"].verdict, found["vllm"].verdict, found["sglang"].verdict) == (
        "refused",
        vllm,
        "refused",
    )
    assert "2048" in found["peft"].reasons[0].what or "4096" in found["peft"].reasons[0].what


def test_modules_that_the_base_does_not_have() -> None:
    found = of(made(), get_model("gpt2"))
    assert (found["peft"].verdict, found["lorax"].verdict) == ("refused", "wrong")


def test_a_model_that_was_not_found_there_is_unknown_not_refused() -> None:
    found = of(made({"peft_type": "IA3"}, layers=0), get_model("bert-base"))
    assert found["vllm"].verdict == "unknown"
    plain = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["c_attn"]}
    vllm = {verdict.engine: verdict for verdict in by_config(plain, get_model("gpt2"))}["vllm"]
    assert (vllm.verdict, vllm.change) == ("change", "merged")  # it has the class, without LoRA


def test_the_atlas_and_choose_say_which_engines_serve_an_answer() -> None:
    entry = entries()["rslora"]
    config = entry.counted_config(LLAMA.shape)
    assert rows.row(entry, LLAMA.name, with_count=False)["served_by"] == served_by(config, LLAMA)
    found = Recommendation("prefix", "", "", (), (), None, None, "")
    assert "no: vLLM" in served(Situation(), found)
    assert "vLLM" not in served(Situation(), replace(found, method="full"))
    knobs: Any = SimpleNamespace(values=get_method("lora").defaults(LLAMA.shape))
    assert served(Situation(), replace(found, method="lora", plan=knobs)) == served_by(PLAIN, LLAMA)
    for method in ("qlora", "lora", "adalora"):
        assert "transformers + PEFT" in served(Situation(), replace(found, method=method))


_values: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-4, 600), st.text(max_size=6), st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=4), st.integers(-1, 9), max_size=2),
)  # fmt: skip
_fields = st.sampled_from(sorted({
    *PLAIN, "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "init_lora_weights",
    "layer_replication", "target_parameters", "revision", "base_model_name_or_path", "layers_to_transform",
    "arrow_config", "use_qalora", "lora_bias", "num_virtual_tokens",
}))  # fmt: skip
_paths = st.sampled_from([
    "base_model.model.model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "prompt_embeddings", "x.experts",
    "base_model.model.lm_head", "base_model.model.model.embed_tokens",
])  # fmt: skip
_parts = st.sampled_from([
    ".lora_A.weight", ".lora_B.weight", ".lora_B.bias", ".lora_embedding_A", ".weight", "", ".lora_E",
])  # fmt: skip
_tensors = st.dictionaries(
    st.builds(str.__add__, _paths, _parts),
    st.builds(StoredTensor, st.lists(st.integers(0, 9), max_size=3).map(tuple), st.just("F32")),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_fields, _values), _tensors, st.sampled_from([None, LLAMA, get_model("bert-base")]))
def test_any_config_has_verdicts(config: dict[str, Any], tensors: dict[str, StoredTensor], base: Any) -> None:
    for verdict in passport(Adapter("any", config, tensors, (), no_file), base):
        assert verdict.verdict in STATES and verdict.row()["engine"] == verdict.engine


def test_measured_answers_are_of_the_same_kind_on_the_same_architecture() -> None:
    llama, gemma = of(made()), of(made(model=get_model("gemma-2-2b")), get_model("gemma-2-2b"))
    for name in ("vllm", "llama.cpp", "mlx"):
        measured = llama[name].measured
        assert measured is not None and measured.same and measured.equal == measured.prompts
        assert measured.difference < 1e-3 and measured.package and measured.date
        assert gemma[name].measured is None
    assert llama["sglang"].measured is None
    dora = of(made({"use_dora": True}))
    assert dora["llama.cpp"].measured is None  # only merged, and that was not run
    assert dora["mlx"].measured is not None
    with_template = of(made(files={"chat_template.jinja": b"x"}))
    assert with_template["vllm"].measured == llama["vllm"].measured  # a template does not change the weights
    assert of(made({"revision": "a" * 40, "use_rslora": True}))["vllm"].measured is not None


def test_plain_lora_runs_or_is_converted() -> None:
    found = of(made())
    assert {name: (one.verdict, one.change) for name, one in found.items()} == {
        **dict.fromkeys(("peft", "vllm", "sglang", "tgi", "lorax"), ("runs", "")),
        "llama.cpp": ("change", "gguf"),
        "ollama": ("change", "ollama"),
        "mlx": ("change", "mlx"),
    }


def test_changes_are_those_with_which_the_engines_ran() -> None:
    """As ``make engines`` found them (measured.json)."""
    assert of(made(**CASES["ranks"][0]))["mlx"].change == "mlx"
    assert of(made(**CASES["bias of B"][0]))["llama.cpp"].change == "merged"
