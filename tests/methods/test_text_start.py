"""A start from a text: every method that offers it starts as that text's vectors in the frozen model.

On tiny models, with a tokenizer of a few words; with the real weights in test_prompts.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.models import meta
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
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
    import torch

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
    import torch

    return tiny.build(name).get_input_embeddings()(torch.tensor(IDS)).detach()


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_prompt_starts_as_the_words_embeddings(name: str, folder: str) -> None:
    import torch

    table = started("prompt", name, folder).prompt_encoder["default"].embedding.weight
    torch.testing.assert_close(table[: len(IDS)], words(name), rtol=0, atol=0)


@pytest.mark.parametrize("encoder", ["MLP", "LSTM"])
@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_prompt_encoder_starts_by_making_them(name: str, encoder: str, folder: str) -> None:
    import torch

    model = started("ptuning", name, folder, encoder_reparameterization_type=encoder)
    read = model.get_prompt(1)[0, : len(IDS)]  # of a T5's table the first half
    torch.testing.assert_close(read, words(name), rtol=0, atol=1e-4)
    assert model.prompt_encoder["default"].training, "as PEFT leaves it"


@pytest.mark.parametrize(("slug", "values"), [("prefix", {}), ("ptuning", {"version": "v2"})])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_prefix_starts_as_the_texts_keys_and_values(
    name: str, slug: str, values: dict[str, Any], folder: str
) -> None:
    import torch

    table = started(slug, name, folder, **values).prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        cache = tiny.build(name)(input_ids=torch.tensor([IDS]), use_cache=True).past_key_values
    expected = [states[0].transpose(0, 1) for layer in cache.layers for states in (layer.keys, layer.values)]
    found = table.view(len(IDS), len(expected), *expected[0].shape[1:])
    torch.testing.assert_close(found, torch.stack(expected, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_deep_prompts_start_as_the_texts_keys_and_values(name: str, folder: str) -> None:
    import torch

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
