"""What is false whichever question is asked: found in many words, and not found in what is true."""

from __future__ import annotations

import pytest

from bench import reading as bench
from peft_lab.quiz.bank import get_question
from peft_lab.quiz.reading.falsehoods import all_falsehoods, false_here
from peft_lab.quiz.reading.reader import read_answer, readable

TRAINED, MERGED, FASTER, MOMENTS = "base-trained", "merged-slower", "four-bit-faster", "moments-of-all"
FOUR, ADAPTERS, BLOCKED = "four-bit-trained", "four-bit-adapters", "blocked-gradient"
EVERYTHING = "four-bit-everything"
SOFT, BOTTLENECK, REMEMBERS = "soft-merged", "bottleneck-merged", "frozen-remembers"

FALSE = [
    ("lora-why-low-rank", TRAINED, "The base weights are trained as well."),
    ("lora-why-low-rank", TRAINED, "In LoRA the pretrained weights are also updated, just more slowly."),
    ("lora-rate-rank", TRAINED, "The base model is trained too, so yes."),
    ("lora-vera-why", TRAINED, "The original weights get fine-tuned together with the vectors."),
    ("lora-large-batches", TRAINED, "You train the base weights as well as A and B."),
    ("qlora-ingredients", TRAINED, "The base weights are not frozen."),
    ("prefix-against-prompt", TRAINED, "In both, the backbone's frozen weights learn along with the prefix."),
    ("ia3-merge-why", TRAINED, "The optimizer updates the base weights and the vectors."),
    ("adapters-near-identity", TRAINED, "The pretrained weights aren't frozen, they are adjusted."),
    ("lora-vera-why", TRAINED, "The weights of the base get trained alongside A and B."),
    ("lora-vera-why", TRAINED, "During LoRA we also update the pretrained matrix W."),
    ("lora-vera-why", TRAINED, "All parameters including the base's are trained."),
    ("lora-pissa", TRAINED, "LoRA doesn't freeze the base weights."),
    ("lora-pissa", TRAINED, "The original weights change during training."),
    ("ia3-peak", TRAINED, "Base weights receive updates as well."),
    ("ia3-peak", TRAINED, "We fine-tune the backbone and the adapter together."),
    ("prompt-scale", TRAINED, "The pretrained weights keep learning."),
    ("lora-pissa", TRAINED, "W0 gets gradient updates as well."),
    ("lora-pissa", TRAINED, "The base weights are also learnable."),
    ("lora-pissa", TRAINED, "The model's own weights are updated."),
    ("lora-pissa", TRAINED, "The base model learns along with the adapter."),
    ("lora-pissa", TRAINED, "The pretrained weights get modified during fine-tuning."),
    ("lora-pissa", TRAINED, "The backbone is fine-tuned at the same time."),
    ("serve-merged-or-not", MERGED, "A merged adapter still adds latency."),
    ("lora-tied-head", MERGED, "Once merged there is extra latency for each token."),
    ("qlora-ingredients", FOUR, "The 4-bit weights are updated by the optimizer."),
    ("qlora-step-zero", FOUR, "Training updates the quantized weights."),
    ("qlora-ingredients", ADAPTERS, "The adapters are stored in 4 bits."),
    ("qlora-ingredients", ADAPTERS, "NF4 stores the frozen weights, so the adapters are quantised as well."),
    ("qlora-step-zero", ADAPTERS, "The adapters are also quantized."),
    ("qlora-ingredients", EVERYTHING, "Everything is trained in 4 bits: NF4 stores the frozen weights."),
    ("qlora-step-zero", FASTER, "4-bit training runs faster."),
    ("quant-why-nf4", FASTER, "QLoRA speeds up training."),
    ("memory-not-saved", MOMENTS, "Adam still keeps its moments for all parameters."),
    ("qlora-gradient-path", BLOCKED, "Gradients cannot pass through frozen layers."),
    ("lora-both-zero", BLOCKED, "No gradient flows through the frozen weights."),
    ("prefix-not-mergeable", SOFT, "The prefix is folded into the weights."),
    ("adapters-not-mergeable", BOTTLENECK, "The bottleneck can be folded into the weights afterwards."),
    ("safety-erosion", REMEMBERS, "The base is frozen and can't forget."),
    ("choose-fair-comparison", REMEMBERS, "The weights are frozen, freezing prevents forgetting."),
]  # fmt: skip

TRUE = [
    "The base weights are not trained.",
    "The base weights are frozen; only A and B are trained.",
    "In full fine-tuning the base weights are trained as well.",
    "If the base weights were trained as well, it would cost more memory.",
    "It's a myth that the base weights are trained as well.",
    "The pretrained weights are never updated.",
    "The original weights do not change during training.",
    "LoRA freezes the base weights and trains an update of W.",
    "All parameters of the adapter are trained, the base is not.",
    "The base weights receive no updates.",
    "We train the adapter on the base model, and the head as well.",
    "You also train the head, not the base weights.",
    "We do not train the base and the adapter together.",
    "The pretrained model is trained on a lot of text.",
    "Only the adapter is trained, the base model stays frozen.",
    "Since the base is frozen there's no danger.",
    "Are the base weights trained as well?",
    "The adapter is trained on top of the base weights.",
    "Once merged there is no extra latency.",
    "Merging removes the overhead; unmerged it is slower.",
    "A merged adapter adds no latency.",
    "The 4-bit weights are not updated.",
    "The adapters are not quantised as well.",
    "If the adapters are quantised as well, it is not QLoRA.",
    "Not everything is trained in 4 bits.",
    "The adapters are kept in 16 bits over a 4-bit base.",
    "A 4-bit base makes training slower, not faster.",
    "4-bit weights are dequantised, so training does not run faster.",
    "Adam keeps moments for the trainable parameters only.",
    "In full fine-tuning Adam keeps moments for all parameters.",
    "No moments are kept for the frozen weights.",
    "The gradient passes through frozen layers.",
    "No gradient is computed for frozen weights.",
    "Gradients do not stop at frozen layers.",
    "A prefix cannot be merged into the weights.",
    "A bottleneck adapter cannot be folded into the weights.",
    "With the adapter off the frozen base has not forgotten anything.",
    "Freezing the base does not prevent forgetting.",
]  # fmt: skip


def found(question: str, answer: str) -> set[str]:
    read = read_answer(question, answer)
    assert read is not None
    said = {each.error.text for each in read.errors} | {
        each.error for each in read.points if each.state == "contradicted"
    }
    return {each.name for each in all_falsehoods() if each.error.text in said}


@pytest.mark.parametrize(("question", "name", "answer"), FALSE)
def test_a_falsehood_is_found(question: str, name: str, answer: str) -> None:
    assert name in found(question, answer)


@pytest.mark.parametrize("answer", TRUE)
def test_what_is_true_is_no_falsehood(answer: str) -> None:
    for question in readable():
        assert not found(question, answer), question


@pytest.mark.parametrize("question", readable())
def test_no_model_answer_and_no_point_is_a_falsehood(question: str) -> None:
    assert not found(question, get_question(question).explain(None))
    for point in readable()[question].points:
        assert not found(question, point.text), point.text


def test_who_says_a_falsehood_is_not_said_to_have_made_a_point() -> None:
    said = get_question("lora-why-b-zero").explain(None)
    made = read_answer("lora-why-b-zero", said)
    erred = read_answer("lora-why-b-zero", f"{said} The base weights are trained as well.")
    assert made is not None and made.of("made")
    assert erred is not None and not erred.of("made")
    assert [each.error.text for each in erred.errors] == [all_falsehoods()[0].error.text]


def test_no_right_answer_of_the_development_half_is_a_falsehood() -> None:
    for row in bench.rows("developed"):
        if row["label"] == "right":
            assert not found(row["question"], row["answer"]), row["answer"]


def test_a_falsehood_is_not_looked_for_where_it_may_be_true() -> None:
    assert not found("choose-when-full", "The base weights are trained as well.")
    assert len(false_here("qlora-ingredients")) > len(false_here("bitfit-rate")) > 0
