"""Exhibits: every change changes answers, every check notices it, every recorded outcome follows from its answers."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.studies import exhibits, same_rows, tiny
from peft_lab.studies.exhibits import OUTCOMES, Parts, all_exhibits, outcome, spoil
from peft_lab.studies.same_rows import Answered, recorded, right
from peft_lab.training.tasks.base import Row

NAMES = list(all_exhibits())


@cache
def folder_of_tiny(place: Path) -> Path:
    model = tiny.lora(tiny.tiny())
    tiny.fill(model, "lora_B")
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_tiny(tmp_path_factory.mktemp("adapter"))


@cache
def trained_mixture() -> Parts:
    return exhibits.mixture()


def parts_of(name: str, folder: Path) -> Parts:
    """Return new parts: of the mixture, or of a tiny Llama with stand-ins for its tokenizer."""
    if all_exhibits()[name].mixture:
        return copy.deepcopy(trained_mixture())
    return exhibits.read(
        tiny.tiny(), SimpleNamespace(chat_template="{{ messages }}", eos_token="<|im_end|>"), folder
    )


def loaded(parts: Parts) -> Any:
    """Return the model that answers; the base of the parts stays as it is."""
    return replace(parts, base=copy.deepcopy(parts.base)).load()[0]


def logits(parts: Parts) -> Any:
    import torch

    with torch.no_grad():
        return loaded(parts)(torch.arange(48).reshape(2, 24) % parts.base.config.vocab_size).logits


def noticed(name: str, healthy: Parts, spoilt: Parts) -> bool:
    """Return whether an exhibit's check, as it is shown, is false of the spoilt parts."""
    published = {key: one.clone() for key, one in healthy.base.state_dict().items()}
    names = {
        "trained": healthy.tensors, "shipped": spoilt.tensors,
        "trained_config": healthy.config, "config": spoilt.config,
        "published": published, "base": {key: one.clone() for key, one in spoilt.base.state_dict().items()},
        "tokenizer": spoilt.tokenizer, "trained_tokenizer": healthy.tokenizer, "model": loaded(spoilt),
    }  # fmt: skip
    return not eval(all_exhibits()[name].check, names)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_changes_what_comes_out_and_its_check_notices(name: str, tiny_adapter: Path) -> None:
    import torch

    healthy, spoilt = parts_of(name, tiny_adapter), parts_of(name, tiny_adapter)
    assert not noticed(name, healthy, parts_of(name, tiny_adapter))
    spoil(spoilt, all_exhibits()[name].change)
    assert noticed(name, parts_of(name, tiny_adapter), spoilt)
    same = torch.equal(logits(parts_of(name, tiny_adapter)), logits(spoilt))
    assert same == (
        all_exhibits()[name].change in ("no template", "other end")
    )  # spoil the text, not the model


def test_only_square_matrices_are_exchanged(tiny_adapter: Path) -> None:
    healthy, spoilt = (parts_of("transposed", tiny_adapter) for _ in range(2))
    spoil(spoilt, "transposed")
    moved = {name for name, tensor in healthy.tensors.items() if not tensor.equal(spoilt.tensors[name])}
    assert moved and all("q_proj" in name for name in moved)  # v's matrices have other sides
    assert all(tensor.shape == spoilt.tensors[name].shape for name, tensor in healthy.tensors.items())


def test_query_rows_are_those_of_an_engine_that_keeps_its_own_order(tiny_adapter: Path) -> None:
    """W in llama.cpp's order plus BA in PEFT's is, in PEFT's order, W plus what the exhibit adds."""
    import torch

    healthy, spoilt = (parts_of("query-rows", tiny_adapter) for _ in range(2))
    spoil(spoilt, "query rows")
    heads = healthy.base.config.num_attention_heads

    def in_its_order(rows: Any) -> Any:  # convert_hf_to_gguf.py, LlamaModel.permute
        return (
            rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
            .swapaxes(1, 2)
            .reshape(rows.shape)
        )

    name = next(name for name in healthy.tensors if "q_proj.lora_B" in name)
    assert torch.equal(in_its_order(spoilt.tensors[name]), healthy.tensors[name])
    assert not torch.equal(spoilt.tensors[name], healthy.tensors[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_an_exhibit_names_is_one_of_ours(name: str) -> None:
    import typer

    from peft_lab import cli  # registers the commands
    from peft_lab.takeaway.ship.convert import TARGETS

    known: Any = typer.main.get_command(cli.application.app)
    first, command, *words = all_exhibits()[name].command.split()
    assert first == "peft-lab"
    parsed = known.commands[command].make_context(command, words).params
    assert parsed.get("to") is None or parsed["to"] in TARGETS


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(KeyError):
        spoil(Parts(None, None, {}, {}), "nothing")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_recorded_shows_the_fault(name: str) -> None:
    one, found = all_exhibits()[name], recorded()
    rows, before, after = one.rows(found["spec"]), found["answers"][one.healthy], found["answers"][name]
    assert len(rows) == len(after.answers) == len(after.ended)
    came = outcome(rows, before, after)
    assert came in OUTCOMES and came != "same"
    assert right(rows, before) > len(rows) / 2 and all(before.ended)
    assert came == "endless" or right(rows, after) < right(rows, before)


RIGHT = ('{"item": "tea", "size": "small"}',) * 4
WRONG = '{"item": "tea", "size": "large"}'


@pytest.mark.parametrize(
    ("after", "ended", "came"),
    [
        (RIGHT, True, "same"),
        ((*RIGHT[:3], WRONG), True, "few"),
        ((RIGHT[0], *[WRONG] * 3), True, "most"),
        (('{"item": "te',) * 4, True, "broken"),
        (tuple(f"{one} and more" for one in RIGHT), False, "endless"),
    ],
)
def test_the_outcome_follows_from_the_answers(after: tuple[str, ...], ended: bool, came: str) -> None:
    rows = [Row("", text) for text in RIGHT]
    assert outcome(rows, Answered(RIGHT, (True,) * 4, 1), Answered(after, (ended,) * 4, 1)) == came


@pytest.mark.slow
@pytest.mark.weights
def test_the_shipped_adapter_loses_what_was_recorded_in_16_bits_and_answers_otherwise_without_its_template(
    assets_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_rows, "ROWS", 3)
    spec, folder = same_rows.adapter_of(same_rows.SHIPPED)
    unmerged, merged, bare = (
        exhibits.answered(name, spec, folder) for name in ("unmerged", "bf16", "no-template")
    )
    assert len(unmerged.answers) == 3 and all(unmerged.ended)
    assert same_rows.right(same_rows.rows_of(spec), unmerged) > 0
    assert merged.lost == pytest.approx(recorded()["answers"]["bf16"].lost, abs=2e-3)
    assert bare.answers != unmerged.answers
