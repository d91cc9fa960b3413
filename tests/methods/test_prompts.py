"""Virtual tokens: where they act, how they start, what is stored, and generating with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.shared.virtual_tokens import RELEASES
from peft_lab.models import meta
from peft_lab.models.catalogue import get_model
from tests.methods import tiny
from tests.prose import facts, says

pytestmark = pytest.mark.filterwarnings("ignore")

SLUGS = ("prefix", "prompt", "ptuning")
FOUR = {"num_virtual_tokens": 4}


def loud(slug: str, name: str, **values: Any) -> Any:
    """A model whose virtual tokens are felt."""
    model = tiny.apply(get_method(slug), name, {**FOUR, **values})
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.5)
    return model.eval()


@pytest.mark.parametrize("name", tiny.DECODERS)
@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_generating_equals_one_forward_pass_per_token(use_cache: bool, slug: str, name: str) -> None:
    """PEFT and transformers disagree on the cache's name; bridged wrongly, the virtual tokens are lost or repeated."""
    from_logits, from_base = apart(loud(slug, name), name, use_cache)
    assert max(from_logits) < 1e-4
    assert from_base[0] > 1e-3, "the virtual tokens do nothing"


def apart(model: Any, name: str, use_cache: bool) -> tuple[list[float], list[float]]:
    """How far the logits of ``generate`` are, token by token, from one forward pass and from those of the base."""
    ids = tiny.batch(name)["input_ids"]
    result = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, pad_token_id=0,
        eos_token_id=49, output_logits=True, return_dict_in_generate=True, use_cache=use_cache,
    )  # fmt: skip
    base: Any = tiny.build(name).eval()
    found: tuple[list[float], list[float]] = ([], [])
    for step, logits in enumerate(result.logits):
        so_far = result.sequences[:, : ids.shape[1] + step]
        rows = {"input_ids": so_far, "attention_mask": torch.ones_like(so_far)}
        for each, distances in zip((model, base), found, strict=True):
            with torch.no_grad():
                distances.append(float((logits - each(**rows).logits[:, -1]).abs().max()))
    return found


def test_what_is_said_of_generate_is_so_on_the_pinned_releases() -> None:
    """Pages and clinic give these sentences; with other releases they have to be found again."""
    import peft
    import transformers

    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text("utf-8").split()
    named = [f"{name.lower()}=={release}" for name, release in re.findall(r"(\w+) (\d[\d.]*\d)", RELEASES)]
    assert len(named) == 2 and set(named) <= set(pinned)
    if set(named) != {f"{each.__name__}=={each.__version__}" for each in (peft, transformers)}:
        pytest.skip("other releases than those that are spoken of")
    lost, right = 1e-6, 1e-4
    for slug in SLUGS:
        model = loud(slug, "llama")
        del model.prepare_inputs_for_generation  # PEFT's own again
        model.base_model_prepare_inputs_for_generation = model.base_model.prepare_inputs_for_generation
        (cached, from_base), (anew, _) = apart(model, "llama", True), apart(model, "llama", False)
        if slug == "prefix":
            assert max(from_base) < lost and anew[0] < right < min(anew[1:])
        else:
            assert cached[0] < right < min(cached[1:]) and max(anew) < right


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("cached", [True, False])
def test_generating_on_an_encoder_decoder(cached: bool, slug: str) -> None:
    model = loud(slug, "t5")
    rows = tiny.batch("t5")
    inputs = {"input_ids": rows["input_ids"], "attention_mask": torch.ones_like(rows["input_ids"])}
    result = model.generate(
        **inputs,
        max_new_tokens=5,
        do_sample=False,
        eos_token_id=49,
        output_logits=True,
        return_dict_in_generate=True,
        use_cache=cached,
    )
    for step, logits in enumerate(result.logits):
        with torch.no_grad():
            so_far = result.sequences[:, : step + 1]
            expected = model(**inputs, decoder_input_ids=so_far, use_cache=slug == "prefix").logits[:, -1]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("slug", SLUGS)
def test_generating_after_loading(slug: str, tmp_path: Any) -> None:
    spec, model = get_method(slug), loud(slug, "llama")
    ids = tiny.batch("llama")["input_ids"]
    options = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": 5,
        "do_sample": False,
    }
    spec.save(model, tmp_path)
    loaded: Any = spec.load(tiny.build("llama"), tmp_path)
    bare: Any = tiny.build("llama")
    assert torch.equal(loaded.generate(**options), model.generate(**options))
    assert not torch.equal(loaded.generate(**options), bare.generate(**options))


def test_prefix_is_keys_and_values_before_the_layers_own() -> None:
    """One layer of attention by hand: P_k and P_v in front of k and v, seen by every position."""
    model = loud("prefix", "llama")
    rows = {"input_ids": tiny.batch("llama")["input_ids"]}
    seen: dict[str, Any] = {}
    attention = model.get_base_model().model.layers[0].self_attn
    attention.o_proj.register_forward_pre_hook(lambda _, args: seen.update(mixed=args[0]))
    for name in "qkv":
        getattr(attention, f"{name}_proj").register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: out})
        )
    with torch.no_grad():
        model(**rows)
        table = model.prompt_encoder["default"].embedding.weight
        prefix = table.view(4, 2 * 2, 2, 8)  # tokens, layers x (key, value), key/value heads, head size
        batch, length, _ = seen["q"].shape
        q, k, v = (seen[name].view(batch, length, -1, 8).transpose(1, 2) for name in "qkv")
        positions = torch.arange(4, 4 + length)[None]
        cos, sin = model.get_base_model().model.rotary_emb(q, positions)

        def rotate(t: Any) -> Any:
            left, right = t.chunk(2, -1)
            return t * cos[:, None] + torch.cat((-right, left), -1) * sin[:, None]

        p_k, p_v = (prefix[:, part].transpose(0, 1).expand(batch, -1, -1, -1) for part in (0, 1))
        k = torch.cat((p_k, rotate(k)), 2).repeat_interleave(2, 1)
        v = torch.cat((p_v, v), 2).repeat_interleave(2, 1)
        mask = torch.full((length, 4 + length), -torch.inf).triu(5)
        scores = rotate(q) @ k.transpose(-1, -2) / 8**0.5 + mask
        expected = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1)
    torch.testing.assert_close(seen["mixed"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projection", [False, True])
def test_a_prefix_of_zeros_is_nearer_the_base_and_learns(projection: bool) -> None:
    rows = tiny.batch("llama")
    base = tiny.outputs(tiny.build("llama"), rows)
    distance = {}
    for start in ("random", "zero"):
        values = {**FOUR, "prefix_projection": projection, "init_weights": start}
        model = tiny.apply(get_method("prefix"), "llama", values)
        distance[start] = (tiny.outputs(model, rows) - base).norm()
        before = tiny.loss(model, rows).item()
        for _ in range(5):
            tiny.train_step(model, rows, lr=0.5)
        assert tiny.loss(model, rows).item() < before
    assert distance["zero"] > 0
    assert projection or distance["zero"] < distance["random"]


@pytest.mark.parametrize("slug", ["prompt", "ptuning"])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_prompts_are_embeddings_before_the_text(slug: str, name: str) -> None:
    model = loud(slug, name)
    ids = tiny.batch(name)["input_ids"]
    base = tiny.build(name)
    with torch.no_grad():
        prompt = model.get_prompt(len(ids))
        embedded = torch.cat((prompt, base.get_input_embeddings()(ids)), 1)
        mask = torch.ones(embedded.shape[:2])
        expected = base(inputs_embeds=embedded, attention_mask=mask)
        got = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    key = "logits" if "logits" in got else "last_hidden_state"
    torch.testing.assert_close(got[key], expected[key], rtol=0, atol=1e-5)
    assert got[key].shape[1] == ids.shape[1] + 4


def test_the_encoder_of_p_tuning_is_not_stored() -> None:
    spec, shape = get_method("ptuning"), get_model("llama-3.2-3b").shape
    formula = spec.formula(shape, spec.require(shape, {"num_virtual_tokens": 20}))
    assert formula.trainable == 28_382_208
    assert formula.stored == 61_440
    lstm = spec.formula(shape, spec.require(shape, {"encoder_reparameterization_type": "LSTM"}))
    assert round(lstm.trainable / 1e6) == 434
    narrow = spec.formula(shape, spec.require(shape, {"encoder_hidden_size": 128}))
    assert round(100 * narrow.trainable / shape.total, 3) == 0.027


def test_the_projection_of_prefix_tuning_is_not_stored() -> None:
    spec = get_method("prefix")
    shares = {"llama-3.2-3b": (59.8, 1.83), "llama-2-7b": (None, 13.9), "gpt2": (None, 10.6)}
    for name, (millions, percent) in shares.items():
        shape = get_model(name).shape
        formula = spec.formula(shape, spec.require(shape, {"prefix_projection": True}))
        assert formula.stored == 20 * 2 * shape.num_layers * shape.kv_width
        assert millions is None or round(formula.trainable / 1e6, 1) == millions
        total = shape.total + formula.added
        assert 100 * formula.trainable / total == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize("slug", SLUGS)
def test_more_virtual_tokens_than_positions(slug: str) -> None:
    shape = get_model("gpt2").shape
    spec = get_method(slug)
    with pytest.raises(BadInput, match="1 to 1,000"):
        spec.require(shape, {"num_virtual_tokens": 2000})
    (warning,) = spec.problems(shape, {"num_virtual_tokens": 1000})
    assert warning.level == "warning" and says(warning.message, 24, "1,024")
    tiny_shape = tiny.shape_of("gpt2")
    with pytest.raises(BadInput, match="all of them"):
        spec.require(tiny_shape, {"num_virtual_tokens": tiny.POSITIONS})
    assert spec.virtual_tokens(spec.complete(shape, {"num_virtual_tokens": 7})) == 7


def test_half_of_the_table_is_not_read_on_encoder_decoder_models() -> None:
    spec = get_method("prompt")
    (warning,) = spec.problems(tiny.shape_of("t5"), FOUR)
    assert warning.level == "warning"
    assert says(warning.message, "8 rows", 4, "half")
    model = tiny.apply(spec, "t5", FOUR)
    tiny.loss(model, tiny.batch("t5")).backward()
    (table,) = [p for p in model.parameters() if p.requires_grad]
    assert table.grad is not None and table.shape[0] == 8
    moved = table.grad.abs().sum(1) > 0
    assert torch.equal(moved, torch.tensor([True] * 4 + [False] * 4))


def test_a_prefix_is_as_wide_as_the_keys_of_a_t5() -> None:
    """FLAN-T5-small has 6 heads of 64 on a hidden size of 512, T5-3b 32 of 128 on 1024; PEFT would take the hidden
    size and divide it by the heads."""
    from dataclasses import replace

    shape = replace(tiny.shape_of("t5"), head_dim=16)
    spec = get_method("prefix")
    config: Any = spec.config(shape, spec.require(shape, FOUR), "SEQ_2_SEQ_LM")
    assert config.token_dim == shape.kv_width != shape.hidden
    assert spec.formula(shape, spec.require(shape, FOUR)).stored == 4 * 2 * shape.num_layers * shape.kv_width


def test_embeddings_narrower_than_the_model_are_refused() -> None:
    """PEFT makes virtual tokens of the hidden size."""
    from dataclasses import replace

    shape = tiny.shape_of("llama")
    narrow = tuple(
        replace(group, parameters={"weight": (shape.vocab, 16)}) if group.type == "Embedding" else group
        for group in shape.groups
    )
    for slug in ("prompt", "ptuning"):
        with pytest.raises(BadInput, match=facts(16, 32)):
            get_method(slug).require(replace(shape, groups=narrow), FOUR)


WORDS = ("[UNK]", "[PAD]", "[EOS]", "say", "it", "plainly")
TEXT = "say it plainly"
IDS = [3, 4, 5, 3, 4]  # repeated up to five virtual tokens
FIVE = {"num_virtual_tokens": len(IDS), "encoder_hidden_size": 12}
STARTS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": TEXT},
    "prefix": {"init_weights": "text", "init_text": TEXT},
    "ptuning": {"init_weights": "text", "init_text": TEXT},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    place = tmp_path_factory.mktemp("words")
    PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", eos_token="[EOS]").save_pretrained(
        place
    )
    return str(place)


def applied(slug: str, model: Any, name: str, **values: Any) -> Any:
    spec, shape = get_method(slug), tiny.shape_of(name)
    offered = {knob.name for knob in spec.knobs}
    chosen = {key: value for key, value in {**FIVE, **STARTS[slug], **values}.items() if key in offered}
    torch.manual_seed(3)
    return spec.apply(model, shape, spec.require(shape, chosen), tiny.task_of(name))


def started(slug: str, name: str, folder: str, **values: Any) -> Any:
    model = tiny.build(name)
    model.name_or_path = folder
    return applied(slug, model, name, **values)


def words(name: str) -> Any:
    """The embeddings of the text, repeated."""
    return tiny.build(name).get_input_embeddings()(torch.tensor(IDS)).detach()


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_prompt_starts_as_the_words_embeddings(name: str, folder: str) -> None:
    table = started("prompt", name, folder).prompt_encoder["default"].embedding.weight
    torch.testing.assert_close(table[: len(IDS)], words(name), rtol=0, atol=0)


@pytest.mark.parametrize("encoder", ["MLP", "LSTM"])
@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_prompt_encoder_starts_by_making_them(name: str, encoder: str, folder: str) -> None:
    model = started("ptuning", name, folder, encoder_reparameterization_type=encoder)
    read = model.get_prompt(1)[0, : len(IDS)]  # of a T5's table the first half
    torch.testing.assert_close(read, words(name), rtol=0, atol=1e-4)
    assert model.prompt_encoder["default"].training, "as PEFT leaves it"


@pytest.mark.parametrize(("slug", "values"), [("prefix", {}), ("ptuning", {"version": "v2"})])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_prefix_starts_as_the_texts_keys_and_values(
    name: str, slug: str, values: dict[str, Any], folder: str
) -> None:
    table = started(slug, name, folder, **values).prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        cache = tiny.build(name)(input_ids=torch.tensor([IDS]), use_cache=True).past_key_values
    expected = [states[0].transpose(0, 1) for layer in cache.layers for states in (layer.keys, layer.values)]
    found = table.view(len(IDS), len(expected), *expected[0].shape[1:])
    torch.testing.assert_close(found, torch.stack(expected, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_deep_prompts_start_as_the_texts_keys_and_values(name: str, folder: str) -> None:
    model, base = started("ptuning", name, folder, version="v2"), tiny.build(name)
    with torch.no_grad():
        hidden = base(input_ids=torch.tensor([IDS[:5]]), output_hidden_states=True).hidden_states
    for layer in range(2):
        attention = base.get_submodule(f"encoder.layer.{layer}.attention.self")
        prompt = model.get_submodule(f"encoder.layer.{layer}.attention.self").deep_prompt
        for part in ("key", "value"):
            own = getattr(attention, part)(hidden[layer])[0].unflatten(-1, (4, 8)).transpose(0, 1)
            torch.testing.assert_close(prompt[part], own.detach(), rtol=0, atol=1e-5)


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("prompt", "bert", {}),
    ("prefix", "llama", {}),
    ("ptuning", "bert", {}),
    ("ptuning", "bert", {"version": "v2"}),
    ("ptuning", "llama", {"version": "v2"}),
]


@pytest.mark.parametrize(("slug", "name", "values"), CASES, ids=str)
def test_shapes_alone_start_without_a_text(
    slug: str, name: str, values: dict[str, Any], tmp_path: Path
) -> None:
    """On the meta device no tokenizer is asked for; the parameters are those of any start."""
    kind, config = tiny.CONFIGS[name]
    model: Any = meta.build(meta.make_config(config), kind)
    model.name_or_path = str(tmp_path / "nothing")
    adapted = applied(slug, model, name, **values)
    spec = get_method(slug)
    chosen = {key: value for key, value in FIVE.items() if key in {knob.name for knob in spec.knobs}}
    plain = tiny.apply(spec, name, {**chosen, **values})
    sizes = [(n, p.shape) for n, p in adapted.named_parameters() if p.requires_grad]
    assert sizes == [(n, p.shape) for n, p in plain.named_parameters() if p.requires_grad]


PTUNING = get_method("ptuning")
DEEP = {"version": "v2", "num_virtual_tokens": 4, "init_weights": "random"}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_attention_looks_at_the_prompt_and_then_at_the_text(name: str, padded: bool) -> None:
    model = tiny.apply(PTUNING, name, DEEP)
    rows = tiny.batch(name)
    if not padded:
        rows["attention_mask"] = torch.ones_like(rows["attention_mask"])
    seen: dict[str, Any] = {}
    layer = model.get_submodule("encoder.layer.1.attention.self")
    layer.register_forward_hook(lambda _, args, out: seen.update(given=args[0], mixed=out[0]))
    with torch.no_grad():
        model(**rows)
        q, k, v = (
            getattr(layer, part)(seen["given"]).unflatten(-1, (4, 8)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        keys, values = (layer.deep_prompt[part].expand(3, -1, -1, -1) for part in ("key", "value"))
        scores = q @ torch.cat((keys, k), 2).transpose(-1, -2) / 8**0.5
        hidden = torch.cat((torch.zeros(3, 4), 1.0 - rows["attention_mask"]), 1).bool()
        scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
        expected = (scores.softmax(-1) @ torch.cat((values, v), 2)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(seen["mixed"], expected, rtol=0, atol=1e-5)
    assert seen["mixed"].shape[1] == rows["input_ids"].shape[1], "the text keeps its length"
