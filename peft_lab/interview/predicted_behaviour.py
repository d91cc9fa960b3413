"""Predictions that a small experiment or a short training run settles."""

from __future__ import annotations

from typing import Any

from peft_lab.core import references as src
from peft_lab.core.units import Source
from peft_lab.interview.predictions import Contest, Inquiry, Prediction
from peft_lab.runs.spec import RunRequest
from peft_lab.studies import tiny as run
from peft_lab.studies.tiny import TINY_BERT, lora, seed, tiny, tokens, trainable

# ----------------------------------------
# Experiments on unexpected behaviour of PEFT, run in the inspector process; they return figures.


def misspelt_target() -> list[float]:
    """Return what PEFT does with one right and one misspelt target: refuse (first), warn (second) or accept (third);
    then how many modules of each name it adapted."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = lora(tiny(), targets=["q_proj", "v_porj"])
        except ValueError:
            return [1.0, 0.0, 0.0, 0.0, 0.0]
    warned = any("v_porj" in str(warning.message) for warning in caught)
    adapted = [name for name, _ in model.named_modules() if name.endswith(".lora_A")]
    counts = [float(sum(f".{target}." in name for name in adapted)) for target in ("q_proj", "v_porj")]
    return [0.0, float(warned), float(not warned), *counts]


def wrapped_twice() -> list[float]:
    """Return trainable parameters after wrapping one base for q, then v, over those of a fresh base wrapped for v."""
    import warnings

    base = tiny()
    lora(base, targets=["q_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT rightly warns about it
        again = trainable(lora(base, targets=["v_proj"]))
    return [again / trainable(lora(tiny(), targets=["v_proj"]))]


def prompt_positions(virtual: int) -> list[float]:
    """Return the number of positions of logits for 12 tokens of text after a soft prompt."""
    import torch
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual)
    model: Any = get_peft_model(tiny(), config)
    with torch.no_grad():
        return [float(model(tokens()[:1]).logits.shape[1])]


def pissa_disabled() -> list[float]:
    """Return by how many percent PiSSA's logits differ from the original model's: at step 0, and without adapter."""
    import torch

    with torch.no_grad():
        original = tiny().eval()(tokens()).logits
        model = lora(tiny(), start="pissa").eval()
        started = model(tokens()).logits
        with model.disable_adapter():
            disabled = model(tokens()).logits
    return [
        100 * float((started - original).norm() / original.norm()),
        100 * float((disabled - original).norm() / original.norm()),
    ]


def prefix_on_encoder() -> list[float]:
    """Try Prefix Tuning on a BERT classifier: runs (first) or is refused (second); then how many of two sentences are
    answered with a prefix, with a prompt and with LoRA."""
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig

    lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"])
    prefix = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    prompt = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    answered = [_answered(config) for config in (prefix, prompt, lora)]
    return [float(answered[0] > 0), float(answered[0] == 0), *answered]


def _answered(config: Any) -> float:
    """Return how many sentences a small BERT classifier with this adapter answers; 0 if it takes no past keys."""
    import torch
    from peft import get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    seed()
    model: Any = get_peft_model(BertForSequenceClassification(BertConfig(**TINY_BERT)), config)
    try:
        with torch.no_grad():
            return float(len(model(tokens()).logits))
    except ValueError as error:
        if "past key values" in str(error):
            return 0.0
        raise


SMALL = "minilm-l6"


def _accuracy(*contenders: tuple[str, str, dict[str, Any], float | None]) -> Contest:
    runs = tuple(
        RunRequest(model=SMALL, method=method, task="sentiment", values=values, learning_rate=rate)
        for _, method, values, rate in contenders
    )
    return Contest(runs, tuple(contender[0] for contender in contenders), ("metric", "after"), "accuracy")


PREDICTIONS = (
    Prediction(
        id="predict-first-gradient",
        topic="training",
        belief="A and B learn from the first step.",
        question="LoRA, B = 0 and A random. Which of the two has the larger gradient in the first step?",
        options=("A", "B"),
        experiment=Inquiry(run.first_gradients, ("A", "B"), "", Source.MEASURED),
        rule="largest",
        why="The gradient of A contains B, which is zero, so A's is exactly zero. B's contains A x, and after one "
        "step A learns, too.",
        sources=(f"{src.LORA}, section 4.1", src.ALGEBRA),
        pages=("lora",),
    ),
    Prediction(
        id="predict-both-zero",
        topic="lora",
        belief="Starting everything at zero is the safe choice.",
        question="A tiny model, 20 steps of LoRA. Which start lets the loss fall further?",
        options=("B = 0, A random", "A = B = 0"),
        experiment=Inquiry(
            run.trained_from_zero, ("B = 0", "A = B = 0"), "less loss", Source.MEASURED, (20,)
        ),
        rule="largest",
        why="With both at zero each gradient contains the other's zero, so nothing ever moves. One random factor "
        "is enough to leave that point.",
        sources=(src.ALGEBRA,),
        pages=("lora",),
    ),
    Prediction(
        id="predict-alpha",
        topic="lora",
        belief="α is a regulariser; doubling it changes little.",
        question="You double α and leave A, B and r alone. By which factor does the correction ΔW grow?",
        options=("it stays the same", "about 1.4", "2", "4"),
        experiment=Inquiry(run.doubled_alpha, ("",), "times", Source.MEASURED),
        rule="bands",
        bands=(1.2, 1.7, 3.0),
        why="ΔW is α/r times BA, so it is proportional to α. For the first steps α therefore acts much like a "
        "learning rate.",
        sources=(f"{src.LORA}, section 4.1",),
        pages=("lora",),
    ),
    Prediction(
        id="predict-merge-precision",
        topic="serving",
        belief="Merging LoRA is exact.",
        question="A LoRA is merged once in float32 and once in bfloat16. In which are the outputs further from the "
        "unmerged ones?",
        options=("float32", "bfloat16"),
        experiment=Inquiry(run.merge_differences, ("float32", "bfloat16"), "percent", Source.MEASURED),
        rule="largest",
        why="Adding a small ΔW to a larger W keeps only the digits that the format has. bfloat16 has about three "
        "decimal digits, float32 seven.",
        sources=(src.RUN,),
        pages=("lora",),
    ),
    Prediction(
        id="predict-merge-four-bit",
        topic="qlora",
        belief="A QLoRA adapter can be merged into the 4-bit base.",
        question="ΔW is added to a weight matrix that is then rounded to NF4 again; ΔW is one percent of W. How "
        "large is the rounding error compared with ΔW?",
        options=("under a tenth of it", "about a third of it", "about as large as ΔW itself, or larger"),
        experiment=Inquiry(run.merged_into_four_bits, ("",), "times ΔW", Source.MEASURED),
        rule="bands",
        bands=(0.1, 0.7),
        why="The steps between code values are far larger than such a change, so most of it is rounded away. Merge "
        "into the 16-bit weights, or serve the adapter beside the 4-bit base.",
        sources=(src.RUN,),
        pages=("qlora",),
    ),
    Prediction(
        id="predict-four-bit-types",
        topic="quantisation",
        belief="Four bits are four bits.",
        question="Normal random numbers, blocks of 64. Which 4-bit format reproduces them worst?",
        options=("NF4", "FP4", "evenly spaced integers"),
        experiment=Inquiry(run.four_bit_errors, ("NF4", "FP4", "int4"), "percent", Source.MEASURED),
        rule="largest",
        why="All have 16 codes and put them in different places. NF4's suit this distribution; a floating-point "
        "grid spends codes near zero that large values lack.",
        sources=(f"{src.QLORA}, section 3",),
        pages=("qlora",),
    ),
    Prediction(
        id="predict-saved-activations",
        topic="memory",
        belief="LoRA needs hardly any activation memory, because the base is frozen.",
        question="What share of the bytes that autograd keeps for full fine-tuning does it keep for LoRA on q and "
        "v? (a small Llama)",
        options=("under 10%", "10 to 50%", "over 50%"),
        experiment=Inquiry(run.saved_share, ("",), "percent", Source.MEASURED),
        rule="bands",
        bands=(10.0, 50.0),
        why="A frozen linear map need not keep its input, but norms, products, activation functions and attention "
        "keep theirs. The gradient has to pass through all of them.",
        sources=(src.RUN,),
        pages=("memory",),
    ),
    Prediction(
        id="predict-misspelt",
        topic="training",
        belief="A typing mistake in target_modules raises an error.",
        question="LoRA through PEFT with the targets q_proj and v_porj. What happens?",
        options=("an error", "a warning", "nothing: q_proj is adapted alone"),
        experiment=Inquiry(
            misspelt_target,
            ("an error", "a warning", "nothing"),
            "adapted modules",
            Source.MEASURED,
            (),
            True,
            ("q_proj", "v_porj"),
        ),
        rule="largest",
        why="PEFT is content when one of the names matches. Compare the trainable count with the formula, or print "
        "the adapted modules; this lab names what did not match.",
        sources=(src.RUN,),
        pages=("lora",),
    ),
    Prediction(
        id="predict-wrapped-twice",
        topic="training",
        belief="get_peft_model makes a new model and leaves the old one alone.",
        question="One base is wrapped for q, then again for v. Compared with a fresh base wrapped for v, how many "
        "parameters are trainable?",
        options=("as many", "more"),
        experiment=Inquiry(wrapped_twice, ("",), "times", Source.MEASURED),
        rule="bands",
        bands=(1.01,),
        why="The base is changed in place, and the first adapter is still in it and trainable. Start from a fresh "
        "base or call unload() before.",
        sources=(src.RUN,),
        pages=("lora",),
    ),
    Prediction(
        id="predict-prompt-length",
        topic="prompt",
        belief="A soft prompt is invisible from outside.",
        question="A causal model with a soft prompt of 20 tokens is given 12 tokens. For how many positions do "
        "logits come back?",
        options=("12", "20", "32"),
        experiment=Inquiry(prompt_positions, ("",), "positions", Source.MEASURED, (20,)),
        rule="bands",
        bands=(12.5, 20.5),
        why="The virtual tokens are positions like others, and the model answers at each of them. Labels and "
        "metrics that index into the logits have to allow for it.",
        sources=(src.RUN,),
        pages=("prompt",),
    ),
    Prediction(
        id="predict-pissa-off",
        topic="lora",
        belief="Switching the adapter off gives the original model back.",
        question="LoRA started by PiSSA, before any training. Where are the outputs further from the original "
        "model's: with the adapter on, or switched off?",
        options=("on", "off"),
        experiment=Inquiry(pissa_disabled, ("on", "off"), "percent", Source.MEASURED),
        rule="largest",
        why="PiSSA moves the top singular vectors of W into the adapter and leaves the rest as the base. Without "
        "the adapter the most important part of every adapted matrix is missing.",
        sources=(f"{src.PISSA}, section 3",),
        pages=("lora",),
    ),
    Prediction(
        id="predict-prefix-encoder",
        topic="choosing",
        belief="Every PEFT method runs on every model.",
        question="PEFT's Prefix Tuning on a BERT that classifies sentences: what happens on the first forward "
        "pass?",
        options=("it runs", "it is refused"),
        experiment=Inquiry(
            prefix_on_encoder,
            ("runs", "refused"),
            "sentences answered",
            Source.MEASURED,
            (),
            True,
            ("Prefix Tuning", "Prompt Tuning", "LoRA"),
        ),
        rule="largest",
        why="The prefix travels as past keys and values, and with current transformers a BERT classifier takes "
        "none. Prompt Tuning and P-Tuning need input embeddings only.",
        sources=(src.RUN,),
        pages=("prefix", "choose"),
    ),
    Prediction(
        id="predict-key-bias",
        topic="bitfit",
        belief="Every bias that BitFit trains does something.",
        question="A BERT with random weights. Which attention bias gets the smallest gradient?",
        options=("the query's", "the key's", "the value's"),
        experiment=Inquiry(run.bias_gradients, ("query", "key", "value"), "", Source.MEASURED),
        rule="smallest",
        why="The key's bias adds the same number to all scores of a query, and softmax does not see that: its "
        "gradient is zero but for rounding. The query's bias meets every key differently.",
        sources=(src.ALGEBRA,),
        pages=("bitfit",),
    ),
    Prediction(
        id="predict-lora-against-prompt",
        topic="choosing",
        belief="A few soft tokens do what LoRA does.",
        question="MiniLM learns to tell positive from negative film reviews in 60 steps, each method at its own "
        "default learning rate. Which scores higher on held-out sentences?",
        options=("LoRA r=8", "Prompt Tuning, 20 tokens"),
        experiment=_accuracy(("LoRA", "lora", {"r": 8}, None), ("Prompt Tuning", "prompt", {}, None)),
        rule="largest",
        why="On small models a prompt has little to steer, and it learns slowly through the frozen network. The "
        "gap closes with scale: the paper saw it vanish at about 11 billion parameters.",
        sources=(f"{src.PROMPT}, section 3.1",),
        pages=("compare", "prompt"),
    ),
    Prediction(
        id="predict-learning-rate",
        topic="training",
        belief="The method decides the result.",
        question="The same LoRA on the same data for 60 steps, at a learning rate of 2e-3 and at the 2e-5 that is "
        "usual for full fine-tuning. Which scores higher?",
        options=("2e-3", "2e-5"),
        experiment=_accuracy(("2e-3", "lora", {"r": 8}, 2e-3), ("2e-5", "lora", {"r": 8}, 2e-5)),
        rule="largest",
        why="Few parameters have to make the whole change, so each has to move further. Compared at one rate, "
        "methods are judged by the rate.",
        sources=(src.BENCH,),
        pages=("lora", "runs"),
    ),
)
