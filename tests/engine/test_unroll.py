"""Depth by unrolling equals depth by running; copied models and single figures say what whole ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peft_lab.engine import account, running, simulate
from peft_lab.engine import build as prototypes
from peft_lab.engine.build import Blueprint, Quantise, names_layers, tensors_of
from peft_lab.engine.lab import LabBatch, simulate_lab
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.running import run
from peft_lab.engine.simulate import blueprint_of, bytes_needed, work_of
from peft_lab.engine.simulate import simulate as simulate_prototypes
from peft_lab.engine.simulate import simulate as simulate_step
from tests.engine import small

pytestmark = pytest.mark.filterwarnings("ignore")

# -- Depth by unrolling equals depth by running, over architectures, methods and checkpointing.

METHODS: dict[str, dict[str, Any]] = {
    "FULL": {},
    "LORA": {"r": 4},
    "DORA": {"r": 4, "use_dora": True},
    "ADALORA": {"total_step": 100},
    "IA3": {},
    "LN_TUNING": {},
    "VERA": {"r": 16},
    "OFT": {"oft_block_size": 8},
    "PROMPT_TUNING": {"num_virtual_tokens": 6},
}


def _method(name: str, kind: str) -> Any:
    if name == "FULL":
        return None
    fields = dict(METHODS[name])
    return small.adapter("LORA" if name == "DORA" else name, kind, **fields)


def _figures(blueprint: Any, setting: StepSetting) -> tuple[bool, int, int, dict[str, int], int]:
    trace, _, unrolled = running.run(blueprint, setting)
    points = account.timeline(trace)
    top = max(points, key=lambda point: point.nbytes)
    return unrolled, top.nbytes, account.reserve(trace, (8, 9)), top.parts, len(trace.events)


def _both_ways(blueprint: Callable[[], Any], setting: StepSetting) -> tuple[Any, Any]:
    found = _figures(blueprint(), setting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "DEPTH", 10**6)
        return found, _figures(blueprint(), setting)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["llama", "gpt2", "bert"]),
    name=st.sampled_from(sorted(METHODS)),
    layers=st.integers(6, 9),
    batch=st.integers(1, 5),
    seq=st.integers(3, 70),
    checkpointing=st.booleans(),
    padded=st.booleans(),
    optimizer=st.sampled_from(["adamw", "sgd", "adamw8bit", "adafactor", "muon"]),
)
def test_unrolled_equals_run(
    kind: str, name: str, layers: int, batch: int, seq: int, checkpointing: bool, padded: bool, optimizer: str
) -> None:
    if kind == "gpt2" and name in ("VERA", "OFT", "DORA"):
        name = "LORA"
    if name == "LN_TUNING" and kind != "llama":
        name = "IA3"
    found, run = _both_ways(
        lambda: small.blueprint(kind, layers, _method(name, kind), checkpointing=checkpointing),
        StepSetting(batch, seq, padded=padded, optimizer=optimizer),
    )
    assert not run[0] and found[1:] == run[1:]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "4 bits", "8 bits", "gemma"])
def test_like_layers_are_unrolled_packed_ones_too(kind: str) -> None:
    packed = {"quantise": Quantise(int(kind[0]))} if "bits" in kind else {}
    kind = "llama" if packed else kind
    found, run = _both_ways(
        lambda: small.blueprint(kind, 12, _method("LORA", kind), **packed), StepSetting(2, 16)
    )
    assert found[0] and found[1:] == run[1:]


#: Adapters in some layers only, however that is said, and methods whose adapter is built of real tensors.
PARTIAL: dict[str, Callable[[list[int]], dict[str, Any]]] = {
    "layers_to_transform": lambda at: {
        "layers_pattern": "layers", "target_modules": ["q_proj"], "layers_to_transform": at,
    },
    "regex": lambda at: {"target_modules": rf".*layers\.({'|'.join(map(str, at))})\.self_attn\.q_proj"},
    "names": lambda at: {"target_modules": [f"{number}.self_attn.q_proj" for number in at]},
    "rank_pattern": lambda at: {"target_modules": ["q_proj"], "rank_pattern": {f"{at[0]}.self_attn.q_proj": 2}},
    "layer_replication": lambda at: {
        "target_modules": ["q_proj"], "layer_replication": [[0, at[0] + 2], [1, at[0] + 2]],
    },
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(sorted(PARTIAL)),
    layers=st.integers(6, 9),
    at=st.sets(st.integers(0, 5), min_size=1).map(sorted),
    kind=st.sampled_from(["llama", "gemma"]),
)
@example(name="layers_to_transform", layers=9, at=[0, 1, 2, 3, 4], kind="llama")
@example(name="layers_to_transform", layers=9, at=[5], kind="llama")
@example(name="regex", layers=9, at=[5], kind="llama")
@example(name="layer_replication", layers=9, at=[5], kind="llama")
def test_adapters_in_some_layers(name: str, layers: int, at: list[int], kind: str) -> None:
    if kind == "gemma":
        # Two kinds of attention in turn, so twice as many layers to a few; PEFT cannot replicate those.
        layers, name = 2 * layers, "regex" if name == "layer_replication" else name
    found, run = _both_ways(
        lambda: small.blueprint(kind, layers, small.adapter("LORA", r=4, **PARTIAL[name](at))),
        StepSetting(2, 16),
    )
    assert found[1:] == run[1:]
    assert not found[0]


DATA_DEPENDENT: dict[str, dict[str, Any]] = {
    "BOFT": {"boft_block_size": 4},
    "FROD": {"progressbar": False},
    "ADAMSS": {"r": 8, "num_subspaces": 2, "subspace_rank": 1},
    "SHIRA": {"r": 2},
    "UNILORA": {"r": 2},
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", sorted(DATA_DEPENDENT))
@pytest.mark.parametrize("only", [None, [0, 1, 2, 3, 4]])
def test_adapters_that_are_built_of_values(
    name: str, only: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is the count: with the layers' numbers unseen it still tells that five layers are not all."""
    targets: Any = ["q_proj"]
    if only is not None:
        monkeypatch.setattr(running, "names_layers", lambda method: False)
        targets = rf".*\.({'|'.join(map(str, only))})\.self_attn\.q_proj"
    config = small.adapter(name, target_modules=targets, **DATA_DEPENDENT[name])
    found, run = _both_ways(lambda: small.blueprint("llama", 8, config), StepSetting(2, 16))
    assert found[1:] == run[1:]
    assert found[0] == (only is None)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"target_modules": ["q_proj", "v_proj"]}, False),
        ({"target_modules": "all-linear"}, False),
        ({"target_modules": ["wi_0", "fc1", "c_attn"]}, False),
        ({"target_modules": r".*layers\.\d+\.self_attn\.q_proj"}, False),
        ({"target_modules": r".*layers\.(1[0-5])\.self_attn\.q_proj"}, True),
        ({"target_modules": r".*layers\.\d\.self_attn\.q_proj"}, True),
        ({"target_modules": ["layers.3.self_attn.q_proj"]}, True),
        ({"target_modules": ["q_proj"], "exclude_modules": ["layers.3.self_attn.q_proj"]}, True),
        ({"target_modules": ["q_proj"], "rank_pattern": {"layers.3.self_attn.q_proj": 2}}, True),
    ],
)
def test_which_configs_name_layers(fields: dict[str, Any], named: bool) -> None:
    assert names_layers(small.adapter("LORA", **fields)) == named


def test_what_is_in_the_deepest_layers_only() -> None:
    """PEFT counts LLaMA-Adapter's layers from the top: five layers are too few for six, and show nothing of four."""
    for layers in (4, 6):
        config = small.adapter("ADAPTION_PROMPT", adapter_len=4, adapter_layers=layers)
        found, run = _both_ways(partial(small.blueprint, "llama", 8, config), StepSetting(2, 16))
        assert found[1:] == run[1:]


def test_matrices_shared_over_distance_are_run() -> None:
    """Lily gives every ``stride_A`` layers one A: five layers do not show how many there are."""
    config = small.adapter("LILY", r=4, stride_A=4, num_B=2, target_modules=["up_proj"])
    assert not running.run(small.blueprint("llama", 12, config), StepSetting(2, 16))[2]


# -- A simulation asked for one figure alone says what the whole one says.


ASKED = {
    "one GPU": StepRequest("smollm2-135m", "lora", {}, StepSetting(2, 40)),
    "checkpointed, packed into 4 bits": StepRequest(
        "smollm2-135m", "qlora", {}, StepSetting(1, 24), checkpointing=True
    ),
    "full, in 8 bits, a loss in chunks": StepRequest(
        "smollm2-135m", "full", {}, StepSetting(2, 24, optimizer="paged_adamw8bit", loss="chunked"), "float32"
    ),
    "rows that share one": StepRequest("smollm2-135m", "ia3", {}, StepSetting(1, 64, packed=True, optimizer="sgd")),
    "activations in main memory": StepRequest(
        "smollm2-135m", "lora", {}, StepSetting(2, 24, offload=True), checkpointing=True
    ),
    "a processor": StepRequest("minilm-l6", "bitfit", {}, StepSetting(3, 16, padded=True, device="cpu")),
    "two stacks, not unrolled": StepRequest("flan-t5-small", "lora", {}, StepSetting(2, 16, optimizer="adafactor")),
    "a prefix, not unrolled": StepRequest("gpt2", "prefix", {}, StepSetting(2, 16)),
    "a generation": StepRequest("gpt2", "lora", {}, StepSetting(1, 8, generate=(2, 3))),
}  # fmt: skip


@pytest.mark.sampled(7)
@pytest.mark.parametrize("named", list(ASKED))
def test_one_figure_alone_is_that_of_the_whole(named: str) -> None:
    whole = simulate_step(ASKED[named])
    assert bytes_needed(ASKED[named]) == simulate.needed_bytes(whole)
    assert work_of(ASKED[named]) == whole.work[-1]


# -- A copied model is stepped as one that was built, and is not built twice.

SETTING = StepSetting(2, 32, device="cuda", capability=(8, 9))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "adapters"])
@pytest.mark.parametrize("model", ["smollm2-135m", "gpt2"])  # both tie their embeddings
def test_a_copy_leaves_the_trace_of_a_built_model(
    model: str, method: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueprint = blueprint_of(StepRequest(model, method, {}, SETTING, "bfloat16", checkpointing))
    assert blueprint.source
    expected = run(replace(blueprint, source=""), SETTING)[0]
    prototypes._prototypes.clear()
    built: list[int | None] = []
    build = Blueprint.build

    def counted(self: Blueprint, depth: int | None = None) -> Any:
        built.append(depth)
        return build(self, depth)

    monkeypatch.setattr(Blueprint, "build", counted)
    traces = [run(blueprint, SETTING)[0] for _ in range(2)]
    assert len(built) == 1
    for trace in traces:
        assert trace.events == expected.events and trace.storages == expected.storages


@pytest.mark.sampled(2)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_runs_step_and_a_step_of_memory_do_not_share_a_model(attention: str) -> None:
    """The first that was simulated in a process had decided the attention of the other, 0.7% of this peak."""
    memory = StepRequest("minilm-l6", "lora", {}, SETTING, "bfloat16")
    lab = replace(memory, setting=LabBatch(2, 32, device="cuda", capability=(8, 9), implementation=attention))
    peaks = []
    for order in ((memory, lab), (lab, memory)):
        prototypes._prototypes.clear()
        first, second = (
            (simulate_lab if one is lab else simulate_prototypes)(one).peak_bytes for one in order
        )
        peaks.append((first, second) if order[0] is memory else (second, first))
    assert peaks[0] == peaks[1]


def test_a_model_whose_copy_shares_less_is_built_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sharing(torch.nn.Module):
        """A view of its weight beside it, which a copy has of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(4, 4, device="meta"))
            self.register_buffer("part", self.weight.detach()[:2])

    blueprint = replace(blueprint_of(StepRequest("gpt2", "full", {}, SETTING)), source="sharing")
    monkeypatch.setattr(Blueprint, "build", lambda self, depth=None: Sharing())
    prototypes._prototypes.clear()
    found = [prototypes.fresh_copy(blueprint, 3) for _ in range(2)]
    prototypes._prototypes.clear()
    assert [len(tensors_of(model)) for model in found] == [1, 1]
