"""Shapes: roles, sizes, targets and totals without torch, equal to what torch builds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.models import meta
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModuleGroup

SHAPES = {name: entry.shape for name, entry in catalogue().items()}


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("llama-3.2-3b", {"q", "k", "v", "o", "gate", "up", "down"}),
        ("gemma-2-2b", {"q", "k", "v", "o", "gate", "up", "down"}),
        ("bert-base", {"q", "k", "v", "o", "up", "down"}),
        ("roberta-base", {"q", "k", "v", "o", "up", "down"}),
        ("t5-base", {"q", "k", "v", "o", "up", "down"}),
        ("gpt2", {"qkv", "o", "up", "down"}),
        ("bloomz-560m", {"qkv", "o", "up", "down"}),
    ],
)
def test_every_matrix_of_a_block_has_a_role(name: str, roles: set[str]) -> None:
    shape = SHAPES[name]
    assert set(shape.block) == roles
    assert all(group.role for group in shape.matrices if group.layers)


SEGMENTS = st.sampled_from(["a", "b", "ab", "{}", "0", "1", "10", ""])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)


@given(path=PATHS, layers=st.sampled_from([(), (0,), (0, 1), (1, 10)]), name=PATHS)
def test_a_name_hits_what_ends_so(path: str, layers: tuple[int, ...], name: str) -> None:
    group = ModuleGroup(path, "Linear", layers, {"weight": (2, 3)})
    for asked in (name, name.replace("{}", "1"), path.partition(".")[2], path.replace("{}", "1"), path[1:]):
        assert group.ends(asked) == any(one == asked or one.endswith(f".{asked}") for one in group.paths)


def test_sizes_of_transposed_and_embedding_modules() -> None:
    block = SHAPES["gpt2"].block
    assert block["qkv"].type == "Conv1D"
    assert (block["qkv"].in_features, block["qkv"].out_features, block["qkv"].bias) == (768, 2304, 2304)
    embedding = SHAPES["gpt2"].groups[0]
    assert (embedding.type, embedding.in_features, embedding.out_features) == ("Embedding", 50257, 768)


def test_positions() -> None:
    assert SHAPES["bert-base"].max_positions == 512
    assert SHAPES["roberta-base"].max_positions == 512  # of a table of 514
    assert SHAPES["gpt2"].max_positions == 1024
    assert SHAPES["t5-base"].max_positions is None


def test_matching_is_pefts() -> None:
    shape = SHAPES["bert-base"]
    names = {group.path.split("{}.")[-1] for group in shape.match(("output.dense",)).groups}
    assert names == {"output.dense", "attention.output.dense"}
    assert {group.path for group in shape.match(("dense",)).groups} > {"pooler.dense"}
    assert not shape.match(("ense",)).groups
    assert shape.match(("query", "nope")).unmatched == ("nope",)
    assert shape.match(r".*\.(query|value)").groups == shape.match(("query", "value")).groups
    assert shape.match("no.*such").unmatched == ("no.*such",)


def test_all_linear_leaves_the_output_layer_out() -> None:
    shape = SHAPES["llama-2-7b"]
    assert {group.path.split(".")[-1] for group in shape.match("all-linear").groups} == set(
        shape.target_names
    )
    assert shape.match(("all-linear",)) == shape.match("all-linear")


def test_matching_some_layers_only() -> None:
    (group,) = SHAPES["gpt2"].match(("c_attn",), layers=[0, 5, 99]).groups
    assert group.layers == (0, 5)
    assert not SHAPES["gpt2"].match(("c_attn",), layers=[99]).groups


@pytest.mark.parametrize("name", list(SHAPES))
def test_offered_names_hit_maps_of_one_kind(name: str) -> None:
    shape = SHAPES[name]
    for target in shape.target_names:
        roles = {group.role for group in shape.match((target,)).groups}
        # BERT's output.dense is the ending of attention.output.dense, whatever one calls it.
        assert len(roles) == 1 or target == "output.dense"


@given(name=st.sampled_from(sorted(SHAPES)), data=st.data())
def test_matched_and_unmatched_are_complete(name: str, data: st.DataObject) -> None:
    shape = SHAPES[name]
    names = data.draw(
        st.lists(st.sampled_from(shape.target_names) | st.text(max_size=6), max_size=5, unique=True)
    )
    match = shape.match(names)
    assert set(match.unmatched) <= set(names)
    for target in names:
        hits = any(
            path == target or path.endswith("." + target) for group in shape.groups for path in group.paths
        )
        assert hits == (target not in match.unmatched) or target == "all-linear"


@pytest.mark.filterwarnings("ignore")
def test_in_a_gated_t5_the_first_map_is_the_gate() -> None:
    """transformers' T5DenseGatedActDense: act(wi_0(x)) * wi_1(x)."""
    config = {
        "model_type": "t5", "d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4, "vocab_size": 50,
        "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu",
    }  # fmt: skip
    made = meta.make_config(config)
    groups = meta.read_shape(meta.build(made, "seq2seq"), made, "seq2seq", "gated", "Gated").groups
    roles = {group.path.rpartition(".")[2]: group.role for group in groups if "DenseReluDense" in group.path}
    assert (roles["wi_0"], roles["wi_1"], roles["wo"]) == ("gate", "up", "down")
