"""What holds for every task that comes with the app."""

from __future__ import annotations

import subprocess
import sys

import pytest

from peft_lab.core.errors import AssetError, BadInput
from peft_lab.training import tasks
from peft_lab.training.tasks import Task, all_tasks, get_task
from peft_lab.training.tasks.base import same_text
from peft_lab.training.tasks.tags import tags_in

EVERY = [
    pytest.param(task, id=task.name, marks=[pytest.mark.weights] * bool(task.asset)) for task in all_tasks()
]
OF_TEXTS = [param for task, param in zip(all_tasks(), EVERY, strict=True) if not task.images]


def test_names_are_found_again() -> None:
    assert [get_task(task.name) for task in all_tasks()] == list(all_tasks())
    assert {"sentiment", "products", "tweets", "editorials", "json", "style", "fields", "tags", "digits"} == {
        t.name for t in all_tasks()
    }


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(BadInput, match="'sentiment'") as caught:
        get_task("sentimnt")
    assert caught.value.field == "task"


@pytest.mark.parametrize("task", EVERY)
def test_split_is_disjoint_and_fixed(task: Task) -> None:
    splits = task.load()
    assert task.load() is splits
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert train and test
    assert not train & test
    assert task.rows() == len(splits.train) + len(splits.test)


@pytest.mark.parametrize("task", EVERY)
def test_rows_are_usable(task: Task) -> None:
    splits = task.load()
    for row in (*splits.train, *splits.test):
        assert row.text.strip() and row.target.strip()
        labels = tags_in(row.target) if task.per_token else [row.target]
        assert not task.labels or set(labels) <= set(task.labels)


@pytest.mark.parametrize("task", EVERY)
def test_targets_score_one(task: Task) -> None:
    rows = task.load().test
    assert task.score([row.target for row in rows], rows)[task.metric] == 1.0


@pytest.mark.parametrize("task", EVERY)
def test_nonsense_scores_zero_and_scores_are_shares(task: Task) -> None:
    rows = task.load().test
    scores = task.score(["I am happy to help!"] * len(rows), rows)
    assert scores[task.metric] == 0.0
    assert all(0 <= value <= 1 for value in scores.values())


@pytest.mark.parametrize("task", EVERY)
def test_score_needs_one_prediction_per_row(task: Task) -> None:
    rows = task.load().test[:2]
    for predictions, wanted in ((["a"], rows), (["a"] * 3, rows), ([], ())):
        with pytest.raises(ValueError, match="predictions"):
            task.score(predictions, wanted)


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.name)
def test_described_for_a_learner(task: Task) -> None:
    for text in (task.title, task.metric_help, task.description, task.source, task.license):
        assert text.strip()
    assert len(set(task.samples)) == (0 if task.images else 3)
    assert bool(task.labels) == (not task.writes) == (task.kind in ("classification", "tagging"))
    assert bool(task.max_new_tokens) == (task.kind == "generation")


@pytest.mark.parametrize("task", EVERY)
def test_samples_are_not_test_rows(task: Task) -> None:
    assert not set(task.samples) & {row.text for row in task.load().test}


@pytest.mark.sampled(3)
@pytest.mark.weights
@pytest.mark.parametrize("task", OF_TEXTS)
def test_lengths_hold_nearly_every_row(task: Task) -> None:
    from peft_lab.models.assets import store as assets

    transformers = pytest.importorskip("transformers")
    encoder, pairs = not task.writes, task.model_kinds == ("seq2seq",)
    name = "minilm-l6" if encoder else "flan-t5-small" if pairs else "smollm2-135m"
    tokenizer = transformers.AutoTokenizer.from_pretrained(assets.path(name))
    splits = task.load()
    rows = (*splits.train, *splits.test)
    targets = [len(ids) + 1 for ids in tokenizer([row.target for row in rows])["input_ids"]]
    if encoder:
        lengths = [len(ids) for ids in tokenizer([row.text for row in rows])["input_ids"]]
    else:
        chats = [[{"role": "user", "content": row.text}] for row in rows]
        prompts = (
            tokenizer([row.text for row in rows])["input_ids"]
            if pairs
            else tokenizer.apply_chat_template(chats, add_generation_prompt=True)["input_ids"]
        )
        lengths = [len(ids) + target for ids, target in zip(prompts, targets, strict=True)]
        assert max(targets) <= task.max_new_tokens
    assert sum(length > task.max_length for length in lengths) <= 0.02 * len(rows)


def test_missing_sentences_are_an_asset_error(own_home: object) -> None:
    with pytest.raises(AssetError, match="fetch"):
        get_task("sentiment").rows()
    with pytest.raises(AssetError, match="fetch digits"):
        get_task("digits").rows()


def test_import_is_light() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'pandas', 'streamlit'}"
    code = f"import sys, {tasks.__name__}.own; assert not {heavy} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_do_not_depend_on_the_process() -> None:
    """Hash randomisation, sets and caches must not reach the split."""
    code = (
        "from peft_lab.training.tasks import get_task; from hashlib import sha256;"
        "print(sha256(repr([get_task(n).load() for n in ('json', 'style')]).encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
