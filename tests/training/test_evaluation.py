"""The causal model: losses on completions only, answers from left-padded prompts, every method that takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch

from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from peft_lab.models.loading import decoder_start, load_base
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.training import tasks
from peft_lab.training.batches import Encoded
from peft_lab.training.evaluation import Examiner
from peft_lab.training.tasks.base import Row
from peft_lab.training.tasks.orders import Fields
from tests.runs.test_training import carry_out

pytestmark = pytest.mark.weights
PROBE = "Two large pizzas for Tim at 6 pm, please.\nJSON:"
WRITES = {"smollm2-135m": "json", "flan-t5-small": "fields"}


def methods_in_turn() -> Iterator[Any]:
    """Each method with the models that it takes. In CI with one of them, which take turns: a case takes 13 seconds of
    processor. QLoRA's, the dearest by far, is left to make rest."""
    for at, (slug, method) in enumerate(all_methods().items()):
        models = [model for model in WRITES if get_model(model).kind in method.learning_rates]
        for model in models if slug != "bitfit" else ():
            later = model != models[at % len(models)] or slug == "qlora"
            yield pytest.param(model, slug, marks=pytest.mark.rest if later else ())


@pytest.mark.further
@pytest.mark.parametrize(("model", "slug"), methods_in_turn())
def test_every_method_trains_and_answers(model: str, slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # a whole answer would take most of the time
    task = replace(tasks.get_task(WRITES[model]), max_new_tokens=3)
    monkeypatch.setattr(RunSpec, "task_object", lambda self: task)
    spec = RunRequest(model, slug, task.name, steps=3, batch=2, eval_rows=2, probes=(PROBE,))
    seen = carry_out(spec).view()
    assert seen.status == "done" and len(seen.losses) == 3
    assert seen.before and seen.after and seen.before.rows == seen.after.rows == 2
    assert seen.probes_before[0].answer != ""


@pytest.mark.slow
def test_answers_in_a_batch_are_those_of_one_at_a_time() -> None:
    base = load_base("smollm2-135m", dtype=torch.float32)
    task = tasks.get_task("json")
    examiner = Examiner(replace(task, max_new_tokens=8), base.tokenizer, task.max_length, base.device)
    texts = [row.text for row in task.load().test[:2]] + ["Hi."]
    with torch.no_grad():
        together = examiner._generate(base.model, texts)
        assert together == [examiner._generate(base.model, [text])[0] for text in texts]


class _Same(Fields):
    """The fields, right where the answer is the target letter by letter."""

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        pairs = zip(predictions, rows, strict=True)
        return {self.metric: sum(given == row.target for given, row in pairs) / len(rows)}


def test_rows_are_counted_as_their_answers_end() -> None:
    """Three answers of one batch end after their first, third and second token: each counts from then on."""
    base = load_base("flan-t5-small", dtype=torch.float32)
    task = _Same(**vars(replace(tasks.get_task("fields"), max_new_tokens=6)))
    examiner = Examiner(task, base.tokenizer, 64, base.device, decoder_start(base.entry))
    word, end = base.tokenizer("tea", add_special_tokens=False).input_ids[0], base.tokenizer.eos_token_id
    passes, told = [-1], list[tuple[int, int, int | None]]()

    def ending(_: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        if output.shape[1] > 1:  # the loss
            return output
        passes[0] += 1
        chosen = torch.tensor([end if passes[0] >= last else word for last in (0, 1, 2)])
        return torch.nn.functional.one_hot(chosen, output.shape[-1])[:, None].float()

    base.model.get_output_embeddings().register_forward_hook(ending)  # type: ignore[operator]
    once, row = str(base.tokenizer.decode([word])), task.load().test[0]
    # What ends first is right, what ends last is not.
    rows = [replace(row, text="A " * long, target=target) for long, target in ((1, ""), (5, once), (9, "no"))]
    found = examiner.evaluate(base.model, rows, lambda *counts: told.append(counts))
    assert told == [(0, 3, 0), (1, 3, 1), (2, 3, 2), (3, 3, 2), (3, 3, 2)]
    assert found.metrics[task.metric] == pytest.approx(2 / 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "slug",
    ["prefix", *(pytest.param(slug, marks=pytest.mark.rest) for slug in ("lora", "prompt", "ptuning"))],
)
def test_an_encoder_decoder_writes_what_its_passes_say(slug: str) -> None:
    """Greedy answers token by token, from one pass over all tokens for each: the cache, the padding of the prompts and
    a prefix's place change nothing."""
    base = load_base("flan-t5-small", dtype=torch.float32)
    task, method = replace(tasks.get_task("fields"), max_new_tokens=8), get_method(slug)
    torch.manual_seed(2)
    random = {"prefix": {"init_weights": "random"}}.get(slug, {})
    values = method.require(base.entry.shape, random)
    model = method.apply(base.model, base.entry.shape, values, "SEQ_2_SEQ_LM").eval()
    examiner = Examiner(task, base.tokenizer, 64, base.device, decoder_start(base.entry))
    texts = [task.load().test[0].text, "Hi. Fields:"]
    with torch.no_grad():
        together = examiner.write(model, examiner.prepare(texts), 8)
        for text, written in zip(texts, together.tolist(), strict=True):
            inputs = examiner.reading([text])
            for _ in range(8):
                best = model(**inputs).logits[:, -1:].argmax(-1)
                inputs["decoder_input_ids"] = torch.cat([inputs["decoder_input_ids"], best], dim=1)
            said = inputs["decoder_input_ids"][0, 1:].tolist()
            end = said.index(1) + 1 if 1 in said else len(said)
            assert written[:end] == said[:end]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "slug", ["lora", *(pytest.param(slug, marks=pytest.mark.rest) for slug in ("prefix", "full"))]
)
def test_a_guess_changes_how_soon_an_answer_is_written_and_not_the_answer(slug: str) -> None:
    base = load_base("smollm2-135m", dtype=torch.float32)
    task, method = replace(tasks.get_task("json"), max_new_tokens=6), get_method(slug)
    torch.manual_seed(2)
    values = method.require(base.entry.shape, {"prefix": {"init_weights": "random"}}.get(slug, {}))
    model = method.apply(base.model, base.entry.shape, values, "CAUSAL_LM").eval()
    examiner = Examiner(task, base.tokenizer, task.max_length, base.device)
    text = task.load().test[0].text
    passes = [0]
    head = base.model.get_output_embeddings()  # type: ignore[operator]
    head.register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    written = examiner.answer(model, [text])[0].answer
    assert written
    one_by_one = passes[0]
    half = f"{written[: len(written) // 2]} tea {written[-4:]}"
    for guesses in ([written], [half], [written * 3], ["Something", half]):
        assert examiner.answer(model, [text], [guesses])[0].answer == written, guesses
    for guesses in ([written], ["Something else", written]):
        passes[0] = 0
        examiner.answer(model, [text], [guesses])
        assert passes[0] < one_by_one, "as many passes as tokens"


# ----------------------------------------
# What the output head reads is laid out before it is multiplied, and only while an answer is written.


def test_the_first_rows_are_scored_first_and_the_others_by_length() -> None:
    examiner = Examiner(tasks.get_task("sentiment"), None, 64, "cpu")  # type: ignore[arg-type]
    lengths = [3 + 7 * number % 50 for number in range(150)]
    groups = list(examiner._groups([Encoded((0,) * length, 0) for length in lengths]))
    assert groups[0] == list(range(64)) and sorted(chain(*groups)) == list(range(150))
    assert [lengths[number] for group in groups[1:] for number in group] == sorted(lengths[64:])
