"""Simulations: what is known without simulating must come out, whatever PEFT has must run, bad input is said to be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput, PeftLabError, Unsupported
from peft_lab.engine import account, published, running, simulate, step
from peft_lab.engine.build import Quantise
from peft_lab.engine.request import ConfigRequest, StepRequest, StepSetting, torch_dtype
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import simulate_blueprint
from peft_lab.models.catalogue import get_model
from peft_lab.training import optimizers
from tests.engine import small
from tests.prose import facts

pytestmark = pytest.mark.filterwarnings("ignore")


def _run(kind: str, method: Any, setting: StepSetting, layers: int = 2, **options: Any) -> Any:
    return simulate_blueprint(small.blueprint(kind, layers, method, **options), setting, kind, "test")


def _bytes(model: Any) -> int:
    sizes = {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes()
        for t in (*model.parameters(), *model.buffers())
    }
    return sum(-(-size // 512) * 512 for size in sizes.values())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "t5", "gemma"])
def test_weights_are_the_models_own(kind: str) -> None:
    found = _run(kind, None, StepSetting(2, 16))
    assert found.parts["weights"] == _bytes(small.blueprint(kind, 2, None).build())
    assert found.peak_bytes == sum(found.parts.values())
    assert found.reserved_bytes >= found.peak_bytes


def test_full_fine_tuning_needs_weights_gradients_and_two_moments() -> None:
    found = _run("llama", None, StepSetting(1, 4), layers=4)
    last = found.points[-1]
    weights = last.parts["weights"]
    assert last.parts["gradients"] == pytest.approx(weights, rel=0.01)
    # two moments in the weights' precision, and a counter that the host keeps
    assert last.parts["optimizer"] == pytest.approx(2 * weights, rel=0.05)


@pytest.mark.parametrize("double", [True, False])
def test_packed_sizes_of_a_4_bit_base(double: bool) -> None:
    plain = small.blueprint("llama", 2, None).build()
    maps = [p.numel() for n, p in plain.named_parameters() if "proj" in n]
    blueprint = small.blueprint("llama", 2, small.adapter("LORA", r=2), quantise=Quantise(4, double=double))
    trace, _, _ = running.run(blueprint, StepSetting(1, 4))
    present = {
        part: sum(s.nbytes for s in trace.storages if s.part == part) for part in ("weights", "quantisation")
    }
    whole = sum(t.numel() * t.element_size() for t in (*plain.parameters(), *plain.buffers()))
    assert present["weights"] == whole - sum(maps) * 2 + sum(maps) // 2

    # QLoRA, section 3: a constant for 64 weights, in 8 bits with one of 32 bits for 256 of them, or in 32
    # bits; and code books
    def per_map(n: int) -> int:
        return n // 64 + 4 * -(-n // 64 // 256) + 4 * 256 + 4 if double else n // 64 * 4

    assert present["quantisation"] == sum(per_map(n) + 4 * 16 for n in maps)


def test_checkpointing_trades_activations() -> None:
    kept = _run("llama", small.adapter("LORA", r=2), StepSetting(8, 128), layers=8)
    again = _run("llama", small.adapter("LORA", r=2), StepSetting(8, 128), layers=8, checkpointing=True)
    assert again.peak_bytes < 0.6 * kept.peak_bytes


def test_optimizers_in_their_order() -> None:
    peak = {
        name: _run("llama", None, StepSetting(1, 4, optimizer=name), layers=4)
        for name in ("adamw", "adamw8bit", "sgd")
    }
    states = {name: found.points[-1].parts["optimizer"] for name, found in peak.items()}
    assert states["adamw"] > states["adamw8bit"] > states["sgd"] == 0
    paged = _run("llama", None, StepSetting(1, 4, optimizer="paged_adamw"), layers=4)
    assert paged.host_bytes == 0  # nothing here is large enough to be paged


def _states(optimizer: Any) -> list[int]:
    """Bytes of what an optimizer that really ran keeps for every parameter, without its counts of steps."""
    tensors = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]
    return sorted(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.dim())


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon", "lorafa", "sgd"])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("layers", [2, 7])
def test_states_are_those_of_the_optimizer_that_really_ran(name: str, adapted: bool, layers: int) -> None:
    if name == "lorafa" and not adapted:
        with pytest.raises(Unsupported, match="LoRA's matrices A and B"):
            _run("llama", None, StepSetting(2, 8, optimizer=name))
        return
    blueprint = small.blueprint("llama", layers, small.adapter("LORA", r=4) if adapted else None)
    trace, _, unrolled = running.run(blueprint, StepSetting(2, 8, optimizer=name))
    assert unrolled == (layers > 5)
    alive: set[int] = set()
    for event in trace.events:
        (alive.add if event >= 0 else alive.discard)(event if event >= 0 else ~event)
    parts = account.parts_of(trace)
    simulated = sorted(trace.storages[i].nbytes for i in alive if parts[i] == "optimizer")
    model: Any = blueprint.build().to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            torch.nn.init.normal_(tensor, std=0.02)
    real = step.make_optimizer(name, model, foreach=False)
    ids = torch.zeros(2, 8, dtype=torch.long)
    for _ in range(2):
        real.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        real.step()
    inner = getattr(real, "parts", None) or [getattr(real, "_optimizer", real)]
    assert simulated == sorted(size for each in inner for size in _states(each))
    assert bool(simulated) == (name != "sgd")


def test_an_update_of_both_kinds_is_that_of_each() -> None:
    """Matrices of layers by Muon at AdamW's rate, embeddings, the head and vectors by AdamW."""
    torch.manual_seed(0)
    model: Any = type(small.blueprint("llama", 1, None).build())(small.config("llama", 1))
    twin = copy.deepcopy(model)
    both = optimizers.MuonBesideAdamW(list(model.parameters()), optimizers.outside_layers(model), 1e-2, 0.1)
    names = dict(twin.named_parameters())
    matrices = [name for name in names if "proj" in name]
    muon = torch.optim.Muon(
        [names[name] for name in matrices], 1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    rest = torch.optim.AdamW([p for name, p in names.items() if name not in matrices], 1e-2, weight_decay=0.1)
    assert len(matrices) == 7 and len(names) == 12
    ids = torch.arange(16).reshape(2, 8)
    for each, updates in ((model, [both]), (twin, [muon, rest])):
        each(input_ids=ids, labels=ids).loss.backward()
        for update in updates:
            update.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, names[name]), name


@pytest.mark.slow
def test_generation_keeps_keys_and_values() -> None:
    found = _run("llama", small.adapter("LORA", r=2), StepSetting(1, 4, generate=(64, 40)))
    points = [point for point in found.points if point.phase == "generation"]

    def held_by_the_cache(tokens: int) -> int:
        """Keys and values: 2 layers, 2 heads of 16, 64 rows, 16 bits."""
        return 2 * 2 * 2 * 16 * 64 * tokens * 2

    held = max(point.nbytes - point.parts["weights"] for point in points)
    assert held >= held_by_the_cache(43)
    assert max(point.parts["activations"] for point in points) >= held_by_the_cache(43)
    # From the first token on, and what a longer one replaces too: halfway the cache holds 4 + 20 tokens.
    halfway = points[len(points) // 2 :]
    assert min(point.parts["activations"] for point in halfway[:-1]) >= held_by_the_cache(4 + 19)
    assert max(point.parts["temporary"] for point in halfway) < held_by_the_cache(43)


@pytest.mark.parametrize("name", ["POLY", "MULTITASK_PROMPT_TUNING"])
def test_methods_that_ask_for_the_task_are_told_it(name: str) -> None:
    config = small.adapter(name, **FIELDS.get(name, {}))
    found = _run("llama", config, StepSetting(2, 8, generate=(3, 4)))
    assert "generation" in {point.phase for point in found.points}
    trained = running.run(
        small.blueprint("llama", 2, config), StepSetting(2, 8), published.protocol_training
    )[0]
    assert "evaluation" in {mark.phase for mark in trained.marks}


FIELDS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 100}, "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
    "CARTRIDGE": {"num_virtual_tokens": 4}, "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2},
    "OFT": {"oft_block_size": 8}, "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4}, "PSOFT": {"r": 8}, "P_TUNING": {"num_virtual_tokens": 4},
    "RANDLORA": {"r": 4}, "TRAINABLE_TOKENS": {"token_indices": [1, 2]},
    "VBLORA": {"vector_length": 16, "num_vectors": 32}, "VERA": {"r": 8},
    "PVERA": {"r": 8}, "FOURIERFT": {"n_frequency": 20}, "WAVEFT": {"n_frequency": 20},
    "SHIRA": {"r": 2}, "C3A": {"block_size": 16}, "GRALORA": {"r": 4}, "HRA": {"r": 4}, "LILY": {"r": 4},
    "MISS": {"r": 8}, "UNILORA": {"r": 2}, "FROD": {"progressbar": False}, "ROAD": {"group_size": 8},
    "ADAMSS": {"r": 8, "num_subspaces": 2, "subspace_rank": 1},
    "XLORA": {"hidden_size": 64, "adapters": {"0": {"r": 2}, "1": {"r": 2}}},
    "CPT": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2]},
}  # fmt: skip


def _all_types() -> list[str]:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return sorted(str(kind.value) for kind in PEFT_TYPE_TO_CONFIG_MAPPING)


@pytest.mark.parametrize("peft_type", _all_types())
@pytest.mark.sampled(11)
def test_every_method_of_peft_runs(peft_type: str) -> None:
    found = _run("llama", small.adapter(peft_type, **FIELDS.get(peft_type, {})), StepSetting(2, 8))
    assert found.parts["adapter"] > 0
    assert found.peak_bytes > found.parts["weights"]


@pytest.mark.parametrize("model", ["gpt2"])
def test_a_config_for_classification_gets_a_head(model: str) -> None:
    content = {"peft_type": "LORA", "r": 8}
    writes = simulate.simulate_config(ConfigRequest(model, content, StepSetting(4, 32)))
    sorts = simulate.simulate_config(
        ConfigRequest(model, {**content, "task_type": "SEQ_CLS"}, StepSetting(4, 32))
    )
    entry = get_model(model)
    # Two labels instead of the vocabulary: a map of hidden by two, trained in the base's 16 bits.
    head = 2 * entry.shape.hidden
    assert sorts.parts["adapter"] - writes.parts["adapter"] == pytest.approx(2 * head, abs=512)
    assert sorts.parts["logits"] < 0.01 * writes.parts["logits"]
    with pytest.raises(BadInput, match="classification"):
        _config({**content, "task_type": "SEQ_CLS"}, model, generate=(1, 2))
    with pytest.raises(BadInput, match="for classification"):
        published.simulate_published(model, {**content, "task_type": "SEQ_CLS"})


@pytest.mark.sampled(3)
@pytest.mark.parametrize("start", ["olora", "corda", "pissa"])
def test_starts_that_read_values_are_simulated_as_they_are_counted(start: str) -> None:
    content = {"peft_type": "LORA", "r": 8, "target_modules": ["c_attn"]}
    plain = simulate.simulate_config(ConfigRequest("gpt2", content, StepSetting(2, 8)))
    found = simulate.simulate_config(
        ConfigRequest("gpt2", {**content, "init_lora_weights": start}, StepSetting(2, 8))
    )
    assert (found.peak_bytes, found.reserved_bytes) == (plain.peak_bytes, plain.reserved_bytes)


def _config(
    content: dict[str, Any], model: str = "smollm2-135m", dtype: str = "bfloat16", **setting: Any
) -> Any:
    request = ConfigRequest(model, {"peft_type": "LORA", **content}, StepSetting(2, 8, **setting), dtype)
    return simulate.simulate_config(request)


def _split(kind: str, devices: int = 2, **setting: Any) -> Any:
    return simulate_sharded(
        StepRequest("smollm2-135m", "full", {}, StepSetting(1, 8, **setting)), Sharding(kind, devices)
    )


def _labs(method: str, dtype: str = "nf4", values: dict[str, Any] | None = None, **setting: Any) -> Any:
    return simulate.simulate(
        StepRequest("smollm2-135m", method, values or {}, StepSetting(2, 16, **setting), dtype)
    )


TOKENS: dict[str, Any] = {"num_virtual_tokens": 4}
DORA = {"r": 8, "use_dora": True, "target_modules": ["q_proj"]}
#: What is refused, by the field at which that is said, and a part of the sentence.
REFUSED: dict[str, tuple[tuple[Callable[[], Any], str], ...]] = {
    "": (
        (lambda: _run("llama", small.adapter("LORA", alora_invocation_tokens=[3]), StepSetting(2, 8)), "invocation"),
        (lambda: _run("llama", small.adapter("POLY"), StepSetting(2, 8), checkpointing=True), "gradient checkpointing"),
        (lambda: _config({"task_type": "SEQ_CLS"}, "t5-base"), "end-of-text"),
    ),
    "batch": ((lambda: StepSetting(0, 8).check(), "from 1"), (lambda: StepSetting(10**9, 8).check(), "65,536"),
              (lambda: StepSetting(65_536, 4_194_304).check(), "tokens")),
    "seq": ((lambda: StepSetting(2, -1).check(), "from 1"),),
    "generate": ((lambda: StepSetting(1, 1, generate=(0, 3)).check(), "from 1"),
                 (lambda: StepSetting(1, 4_194_304, generate=(65_536, 1)).check(), "tokens")),
    "optimizer": ((lambda: StepSetting(1, 1, optimizer="lion").check(), "lion"),),
    "dtype": ((lambda: torch_dtype("int3"), "precision"), (lambda: _labs("ia3"), "simulated")),
    "packed": ((lambda: StepSetting(1, 8, padded=True, packed=True).check(), "padding"),
               (lambda: StepSetting(1, 8, generate=(1, 1), packed=True).check(), "generation")),
    "attention": ((lambda: StepSetting(1, 8, attention="flash", padded=True).check(), "padded"),),
    "precision": ((lambda: _labs("qlora", "bfloat16", precision="mixed-fp32"), "autocast-bf16"),),
    "loss": (
        (lambda: StepSetting(1, 8, loss="fused").check(), "fused"),
        (lambda: StepSetting(1, 8, loss="liger", generate=(1, 8)).check(), "no logits"),
        (lambda: _run("gemma", None, StepSetting(1, 8, loss="litgpt")), "logits"),
        (lambda: _run("gemma", None, StepSetting(1, 8, loss="chunked")), "chunks"),
        (lambda: _split("tp", 3, loss="cut"), "loss"),
    ),
    "updates": ((lambda: _run("llama", None, StepSetting(1, 8, updates="backward", optimizer="muon")), "once"),
                (lambda: _split("fsdp2", updates="backward"), "pdate")),
    "compile": (
        (lambda: _run("llama", small.adapter("PREFIX_TUNING", **TOKENS), StepSetting(1, 8, compile=True)), ""),
        (lambda: _run("llama", None, StepSetting(1, 8, compile=True, precision="autocast-bf16")), ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_not_simulated_is_refused_at_its_field(field: str) -> None:
    for asked, said in REFUSED[field]:
        with pytest.raises(PeftLabError, match=said) as refused:
            asked()
        assert (getattr(refused.value, "field", None) or "") == field, refused.value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"task_type": "TOKEN_CLS"}, "CAUSAL_LM"),
        ({"task_type": "FOO"}, "'FOO'"),
        ({"init_lora_weights": "foo"}, "'foo'"),
        ({"r": 10**9}, "r 1,000,000,000"),
        ({"r": "eight"}, "wrong type"),
        ({"target_modules": 5}, "wrong type"),
        ({"peft_type": "TRAINABLE_TOKENS", "token_indices": [1, 9_999_999]}, "names token 9,999,999"),
    ],
)
def test_configs_that_cannot_be_meant(content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _config(content)


def test_norms_of_packed_weights_are_not_known() -> None:
    with pytest.raises(Unsupported, match=facts("DoRA", "norms")):
        _labs("lora", values={"use_dora": True})
    with pytest.raises(Unsupported, match=facts("DoRA", "norms")):
        _config(DORA, dtype="fp4")
    assert _config(DORA, dtype="int8").peak_bytes > 0
