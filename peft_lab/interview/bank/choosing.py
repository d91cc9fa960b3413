"""What is asked after the questions on choosing a method."""

from __future__ import annotations

import math
from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import FIRST, MERGES, RUNS, SEEDS, fact
from peft_lab.core.units import Source
from peft_lab.engine.published.rows import right, slower
from peft_lab.interview.calculations import choosing as calc
from peft_lab.interview.calculations.choosing import SMALL_CANDIDATES
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    gated,
    give_way,
    hold,
    lab,
    one_stack,
    prefixed,
    separate_attention,
    then,
)
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape

LLAMA = "llama-3.2-3b"
EXAMPLES, SHARE = 60, 0.8  # and the share of right answers among them
NINETY_FIVE = 1.96  # standard deviations to either side


def _in_order(case: Case) -> Answer:
    counts = {
        "adapters": case.stored("adapters", placement="houlsby", bottleneck=case["m"]),
        "lora": case.stored("lora", r=case["r"]),
        "prefix": case.stored("prefix", num_virtual_tokens=case["n"]),
        "prompt": case.stored("prompt", num_virtual_tokens=case["n"]),
    }
    ordered = sorted(SMALL_CANDIDATES, key=counts.__getitem__)
    return told(0, "", order="; ".join(f"{get_method(slug).title} {counts[slug]:,}" for slug in ordered[1:]))


def _interval(case: Case) -> Answer:
    """Half of the interval that 95 of 100 samples of 60 examples keep to, in points."""
    half = 100 * NINETY_FIVE * math.sqrt(SHARE * (1 - SHARE) / EXAMPLES)
    return told(round(half), "", share=f"{SHARE:.0%}")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "choose-smallest": (
        then(
            "Order the other three.",
            "From the smallest: {{order}}. The order belongs to these settings on this model.",
            src.ALGEBRA, calculate=_in_order, opens=lab("prompt", model=LLAMA, num_virtual_tokens=20, tab="parameters"),
        ),
        then("So the smallest needs the least memory?", to="memory-fewer-parameters"),
    ),
    "choose-mergeable": (
        then(
            "What if the base is stored in 4 bits?",
            "Then there is no exact merge: the product is rounded again, or the base is unpacked to 16 bits, which "
            "gives up the memory. Unmerged, IA³'s products cost next to nothing.",
            f"{src.IA3}, section 3.3", src.RUN,
        ),
        then("And for LoRA, what are the ways?", to="qlora-merge"),
    ),
    "choose-bitfit-model": (
        then(
            "Where does Qwen2.5 stand?",
            "In between: it kept biases in query, key and value maps and nowhere else. BitFit runs, with few "
            "parameters in few places.",
            src.RUN, opens=lab("bitfit", model="qwen2.5-0.5b", tab="modules"),
        ),
        then("How many are they?", to="bitfit-attention-only"),
    ),
    "choose-prompt-first": (
        then(
            "When does retrieval not help?",
            "When it is behaviour, style or format that is wrong rather than facts; when what is needed cannot be "
            "found by a search; when there is no room or time for long contexts. And it cannot teach a skill.",
            src.RETRIEVAL,
        ),
        then(
            "They insist on training. What is your baseline?",
            "The untrained model with the best prompt, on the same held-out set and metric, and a small LoRA at a "
            "tuned rate. Whatever comes later has to beat both.",
            src.BENCH, opens=lab("choose", prompting="yes"),
        ),
        then("And with 60 labelled examples?", to="choose-few-shot"),
    ),
    "choose-least-that-fits": (
        then(
            "What would you do if it fits by a hair?",
            "Simulate the step with the real lengths, since activations are not in this sum. Then checkpoint, cut the "
            "rows at once and accumulate, or go one step further down: a run that dies on the longest row has cost "
            "more than a slower one.",
            src.RUN, opens=lab("memory", model="llama-2-7b", device="rtx-4090", tab="fits"),
        ),
        then("And what does QLoRA not save?", to="qlora-not-saved"),
    ),
    "choose-rank-for-budget": (
        then("Would you spend the budget on rank or on more target maps?", to="lora-which-targets"),
        then(
            "And halve the file without touching either?",
            "It is in 16 bits already. One could share matrices between layers, or store them in 8 bits; then measure "
            "the score again, since rounding A and B is an error in ΔW.",
            src.ALGEBRA, opens=lab("lora", model=LLAMA, tab="parameters"),
        ),
    ),
    "choose-encoder": (
        then("How could an encoder still be given a deep prompt?", to="prefix-on-encoders"),
        then(
            "Show me the refusal.",
            "The Lab runs it on a BERT classifier and shows the message.",
            src.RUN, opens=lab("misconceptions", belief="predict-prefix-encoder"),
        ),
    ),
    "choose-methods-that-run": (
        then(
            "Which of the rest would you try first for classification, and why?",
            "LoRA on every linear map at a tuned rate, with the head saved; full fine-tuning beside it, because an "
            "encoder is small enough. BitFit as a cheap third. Prompts last: on small models they are behind.",
            f"{src.PROMPT}, section 3.1", src.BITFIT, opens=lab("choose", model="bert-base"),
        ),
        then("It scores well in training and guesses after loading. Why?", to="train-head"),
    ),
    "choose-few-shot": (
        then(
            "How do you report a result on 60 examples honestly?",
            "With its uncertainty. At {{share}} right the binomial interval alone is about {{value}} points to either "
            "side, before the spread over seeds and over which examples were drawn. Use cross-validation, several "
            "seeds, and say what was tuned on what.",
            src.ALGEBRA, calculate=_interval, opens=lab("choose", rows="60"),
        ),
        then("Which parts of IA³'s few-shot recipe are not IA³?", to="ia3-recipe"),
    ),
    "choose-gpus-for-full": (
        then(
            "What does sharding cost in communication?",
            "Splitting moments and gradients costs no more than plain data parallelism. Splitting the weights as well "
            "costs half as much again: they have to be gathered in the forward and in the backward pass.",
            f"{src.ZERO}, section 7", opens=lab("choose", model="llama-3.1-70b", devices="8"),
        ),
        then("And how many bytes is it per parameter, and what for?", to="memory-mixed-adam"),
    ),
    "choose-when-full": (
        then("What is forgetting, and would LoRA prevent it?", to="train-forgetting"),
        then(
            "Someone says LoRA always matches it. What do you ask?",
            "On how much data, with which targets and which rank, and at which learning rate each. It matched on "
            "instruction sets with LoRA on all maps; on continued pretraining with much new text it fell behind.",
            f"{src.LORA_REGRET}, introduction", f"{src.LEARNS_LESS}, section 4",
            opens=lab("fact_check", claim="full-always-best"),
        ),
    ),
    "choose-fair-comparison": (
        then(
            "How many seeds are enough to tell two methods apart?",
            "It depends on the spread: the standard error falls with the root of the number. Three show whether the "
            "spread is large, five to ten tell differences about as large as it. With the same seeds and data for "
            "both, "
            "compare pairs.",
            src.ALGEBRA,
        ),
        then(
            "Give me one example in which settings moved more than the method.",
            f"Prompt Tuning in the published comparison: {right('prompt_tuning-default')} right at its default rate, "
            f"{right('prompt_tuning-sample_vocab-lr_0.001')} at a tenfold rate and started from words of the "
            f"vocabulary.",
            src.BENCH, opens=lab("fact_check", claim="method-matters-most"),
        ),
        then("Why do the methods want such different rates?", to="train-learning-rate"),
    ),
    "choose-variants": (
        then("What happens if AdaLoRA's update is never called?", to="train-adalora"),
        then(
            "And what did DoRA cost there?",
            f"A step took {slower('lora-rank32-dora', 'lora-rank32')} longer than LoRA's at the same rank. The score "
            f"was {right('lora-rank32-dora')} against {right('lora-rank32')}, one run each: no difference to build on.",
            src.BENCH, opens=lab("fact_check", claim="dora-better"),
        ),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on choosing a method.


MODEL = "llama-3.2-3b"
ask = partial(Question, topic="choosing", model=MODEL)
LABELLED = ("sft", "style", "classification", "extraction")  # what examples with an answer are for


def smallest_fits(shape: ModelShape) -> bool:
    return separate_attention(shape) and prefixed(shape)


def too_large_for_one_gpu(shape: ModelShape) -> bool:
    """Its states in full fine-tuning exceed one card, so that splitting them is a question."""
    return shape.total * calc.FULL_STATE > calc.GPU_GIGABYTES * 10**9


def encoder(shape: ModelShape) -> bool:
    return shape.kind == "encoder"


_ASKED = (
    ask(
        id="choose-smallest", level="basic", kind="choice", calculate=calc.smallest, fits=smallest_fits,
        given={"r": 8, "n": 20, "m": 64}, options=calc.titles(calc.SMALL_CANDIDATES),
        question="On {{model}}, which of these stores the fewest parameters: Houlsby adapters of width {{m}}, LoRA "
        "of rank {{r}} on PEFT's default targets, a prefix of {{n}} tokens, or a prompt of {{n}} tokens?",
        answer="{{value}}, with {{least}}: it acts at the input only, all others in every layer.",
        listen_for=("what grows with depth and what does not", "fewest parameters is not least memory"),
        wrong=("the one with the smallest-looking setting",),
        because=(
            "That a bottleneck is small because it is narrow: it has two matrices as long as the model is wide, twice "
            "in every layer.",
            "That LoRA is the smallest because it is the best known: it has two thin matrices for each target in "
            "every layer.",
            "That virtual tokens are always the cheapest: a prefix has keys and values in every layer.",
            "That a prompt grows with depth as the others do: it stands at the input only.",
        ),
        sources=(f"{src.PROMPT}, section 2", src.RUN),
    ),
    ask(
        id="choose-mergeable", level="basic", kind="choice", calculate=calc.mergeable, model=None,
        facts=(
            fact("ia3", MERGES),
            fact("prefix", MERGES, "", "never"),
            fact("adapters", MERGES, "", "never"),
        ),
        options=calc.titles(calc.MERGE_CANDIDATES),
        question="Latency after training must be exactly that of the base model. Which of these methods allows it?",
        answer="{{value}}: its vectors can be multiplied into the weights. The others keep extra tokens or extra "
        "layers.",
        listen_for=("linear or multiplicative changes merge", "names LoRA as the usual alternative"),
        wrong=("a method because it has few parameters",),
        because=(
            "That a prefix becomes part of the weights. It is extra keys and values, and there is no weight to add "
            "them to.",
            "That small layers can be multiplied out. The nonlinearity between their matrices prevents it.",
            "That a vector on activations has to stay. It scales rows or columns of the matrix beside it and can be "
            "multiplied in.",
            "That dropping the encoder leaves nothing. Its output, the virtual tokens, stays in front of every "
            "request.",
        ),
        sources=(f"{src.IA3}, section 3.3", f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="choose-bitfit-model", level="basic", kind="choice", calculate=calc.has_biases, model=None,
        facts=(fact("bitfit", RUNS, "any model", "never", biases="no"),),
        origin=Source.COUNTED,
        options=calc.model_titles(calc.BITFIT_MODELS),
        question="On which of these models can BitFit train anything?",
        answer="{{value}}, which has {{biases}} biases. The others were built without.",
        listen_for=("looks at the architecture before choosing",),
        wrong=("all of them",),
        because=(
            "That every linear layer has a bias, as in a textbook. Llama types are built without.",
            "That a model of another firm is built differently. In this respect Mistral is a Llama: no biases.",
            "That GPT-2 is too old to matter. Its maps and norms have biases, and that is what counts here.",
            "That a newer family has brought biases back. Gemma 2 has none.",
        ),
        sources=(src.BITFIT, src.RUN),
    ),
    ask(
        id="choose-prompt-first", level="basic", kind="free", model=None,
        question="A team asks you to fine-tune a model. What do you ask before choosing a method?",
        answer="Whether a good prompt, examples in the context or retrieval already do it: fine-tuning teaches "
        "behaviour and format better than facts. Then: how many examples and how they are checked, which metric "
        "decides, what hardware, how many tasks and users, what latency, and whether the base's licence allows it. "
        "A baseline without training comes first.",
        listen_for=("is training needed at all", "data and metric before method", "constraints of serving"),
        wrong=("starts with the rank",),
        sources=("the lab's own decision tree, which asks first whether a prompt reaches the target",),
    ),
    ask(
        id="choose-least-that-fits", level="medium", kind="choice", calculate=calc.least_that_fits,
        model="llama-2-7b", fits=gated, given={"gigabytes": 24, "r": 16},
        options=(
            "Full fine-tuning in mixed precision with Adam",
            "LoRA on a bfloat16 base",
            "QLoRA",
            "None of these",
        ),
        question="A card with {{gigabytes}} GB (decimal) is to train {{model}}. Counting weights, gradients and "
        "optimizer states only (adapters of rank {{r}} on every linear map, kept in float32), which is the first "
        "of these that fits?",
        answer="{{value}}. Full fine-tuning would need {{full}} GB, LoRA {{lora}} GB, QLoRA {{qlora}} GB; "
        "activations come on top and decide how long the sequences may be.",
        listen_for=("estimates each in one line", "leaves room for activations"),
        wrong=("picks by reflex instead of estimating: quantising costs time, too",),
        because=(
            "That the weights alone have to fit. Mixed precision with Adam keeps gradients, a float32 "
            "copy and two moments besides.",
            "That only the adapter's size counts. The base in bfloat16 has to be there in any case, two "
            "bytes for each weight.",
            "That a model of this size always needs 4 bits. Estimate the 16-bit base first: quantising costs time.",
            "That every parameter costs full fine-tuning's sixteen bytes, whatever the method. With a frozen base they "
            "are paid for the adapter only.",
        ),
        sources=(f"{src.ZERO}, section 3.1", f"{src.QLORA}, section 3"),
    ),
    ask(
        id="choose-rank-for-budget", level="medium", kind="numeric", calculate=calc.rank_for_budget,
        fits=separate_attention, given={"megabytes": 10},
        question="An adapter file must stay within {{megabytes}} MB (decimal). Which rank can LoRA on the query "
        "and value maps of {{model}} have at most, stored in bfloat16?",
        answer="{{value}}.",
        listen_for=("bytes per rank first", "rounds down"),
        wrong=("forgets the layers",),
        sources=(f"{src.LORA}, section 4.1",),
    ),
    ask(
        id="choose-encoder", level="medium", kind="choice", calculate=calc.refuses_encoder, model="bert-base",
        facts=(fact("prefix", RUNS, "encoder", "never", through="peft"),),
        fits=encoder, options=calc.titles(calc.ENCODER_CANDIDATES),
        question="{{model}} is to classify sentences. Which of these methods does the PEFT library refuse on it "
        "with a current transformers?",
        answer="{{value}}: it travels as past keys and values, and an encoder with a classification head takes "
        "none.",
        listen_for=("limit of the implementation, not of the idea",),
        wrong=("Prompt Tuning: it only needs input embeddings",),
        because=(
            "That LoRA is for decoders. It needs linear maps and nothing else.",
            "That soft prompts are for generation. They are input embeddings, which an encoder takes.",
            "That a prefix is only more tokens. PEFT passes it on as past keys and values, and an encoder with a head "
            "takes none.",
            "That IA³ needs a cache because it scales keys and values. It scales the maps' outputs.",
        ),
        sources=(src.RUN, f"{src.PTUNING2}, section 3.2"),
    ),
    ask(
        id="choose-methods-that-run", level="medium", kind="numeric", calculate=calc.methods_that_run,
        model="bert-base", fits=one_stack,
        question="Of the eight methods LoRA, QLoRA, Prefix Tuning, Prompt Tuning, P-Tuning, Adapters, IA³ and "
        "BitFit, how many can be trained on {{model}} as it is (to classify, if it is an encoder), with PEFT's "
        "prefix and no new biases?",
        answer="{{value}}. Left out: {{left}}.",
        listen_for=("encoder classifiers take no prefix", "some decoders have no biases"),
        wrong=("a number given before looking at the model's kind and its biases",),
        sources=(src.RUN,),
    ),
    ask(
        id="choose-few-shot", level="medium", kind="free", model=None,
        facts=(
            fact(("lora", "ia3"), FIRST, tasks="one", rows="few", objective=LABELLED, kind=("causal-lm", "encoder")),
            fact("full", FIRST, "", "never", rows="few", objective=LABELLED),
            fact(("lora", "ia3"), SEEDS, (2, 10)),
        ),
        question="You have 60 labelled examples. Compare in-context examples, IA³, LoRA and full fine-tuning.",
        answer="In-context examples need no training but take context in every request and vary with their order. "
        "With so few examples capacity is a danger: IA³ or a small LoRA with early stopping, several seeds and a "
        "held-out set beats full fine-tuning in stability. The paper of IA³ found tuning better and cheaper than "
        "in-context learning in that setting, on a base made for it.",
        listen_for=(
            "variance over seeds and examples",
            "cost per request against cost once",
            "validation with few data",
        ),
        wrong=("'too few to train'", "reports one run"),
        sources=(f"{src.IA3}, section 3",),
    ),
    ask(
        id="choose-gpus-for-full", level="hard", kind="numeric", calculate=calc.gpus_for_full,
        model="llama-3.1-70b", fits=too_large_for_one_gpu, given={"gigabytes": calc.GPU_GIGABYTES},
        question="Full fine-tuning of {{model}} ({{total}} parameters), mixed precision with Adam, states split "
        "evenly over GPUs with {{gigabytes}} GB (decimal). How many GPUs at least, activations aside?",
        answer="{{value}}, for {{need}} GB of states. QLoRA's base takes {{small}} GB and fits on {{few}}.",
        listen_for=("sixteen bytes per parameter", "rounds up, then adds room for activations"),
        wrong=("divides the weights only",),
        sources=(f"{src.ZERO}, section 3.1",),
    ),
    ask(
        id="choose-when-full", level="hard", kind="free", model=None,
        facts=(
            fact("full", FIRST, kind="causal-lm", tasks="one", base="sixteen", objective="cpt", amount="exceeds",
            forgetting="ok", full="yes"),
            fact("full", FIRST, kind="encoder", tasks="one", rows=("some", "many"), full="yes", forgetting="ok"),
            fact("full", FIRST, "", "never", kind="causal-lm", objective=("sft", "style", "classification",
            "extraction", "embedding")),
        ),
        question="When is full fine-tuning worth its cost?",
        answer="When there is more to learn than LoRA can hold: continued pretraining on billions of tokens, a new "
        "language. When the model is small, such as an encoder, so that the price is low. Many rows alone are no "
        "reason: on instructions LoRA of a high rank on all maps keeps up. Against it: more forgetting of what the "
        "base could do, a full copy per task, several times the memory, and in pure bfloat16 small updates are "
        "rounded away.",
        listen_for=(
            "When there is more to learn than LoRA can hold: continued pretraining, a new language.",
            "When the model is small, so that the price is low.",
            "Against it: more forgetting, a full copy per task, several times the memory.",
            "Try LoRA of a high rank on all maps first.",
        ),
        wrong=(
            "'full is always better if you can afford it'", "'LoRA always matches full'",
            "'many rows of instructions are a reason'",
        ),
        sources=(f"{src.LEARNS_LESS}, section 4", f"{src.LORA_REGRET}, LoRA rank", src.PURE_BF16),
    ),
    ask(
        id="choose-fair-comparison", level="hard", kind="free", model=None,
        question="You compare five PEFT methods with one learning rate and one seed and crown a winner. What is "
        "wrong, and what would you do?",
        answer="Methods want learning rates orders of magnitude apart, so one rate tests the rate. Tune it for "
        "each with an equal budget, repeat with several seeds and show spread, fix data, steps and base, report "
        "time and peak memory beside quality, and say what was not tuned: studies of LoRA's variants disagree for "
        "having one rate or one batch size for all. In the published comparison Prompt Tuning's accuracy rose sixfold "
        "by settings alone.",
        listen_for=(
            "Methods want very different learning rates, so one rate tests the rate; tune it for each with an equal "
            "budget.", "Repeat with several seeds and show the spread.", "Report memory and time beside quality.",
            "Fix data, steps and base for all.",
        ),
        wrong=(
            "equal numbers of parameters as the only condition", "'one seed is enough'",
            "'one rate for all makes it fair'",
        ),
        sources=(src.BENCH, f"{src.VANILLA}, abstract", f"{src.BATCH_BIAS}, abstract"),
    ),
    ask(
        id="choose-variants", level="hard", kind="free", model=None,
        question="DoRA, rsLoRA, PiSSA, AdaLoRA: for which observation in a run of yours would you reach for each "
        "of them?",
        answer="rsLoRA when raising the rank does not help or makes learning slow: the scale shrinks with r. DoRA "
        "when LoRA stays behind full tuning at low rank and time is no matter; its steps took "
        f"{slower('lora-rank32-dora', 'lora-rank32')} longer in the published comparison, without gain. PiSSA when "
        "convergence is slow and nobody needs the untouched base. "
        "AdaLoRA when a fixed budget should be spread unevenly over layers, and only with its rank allocation "
        "called in the loop. First tune the learning rate of plain LoRA: where each of nine variants was given its own "
        "best rate, they and plain LoRA came out about alike.",
        listen_for=("symptom, then remedy", "costs named", "plain LoRA well tuned as the baseline"),
        wrong=("'the newest one'",),
        sources=(
            f"{src.RSLORA}, section 3",
            src.DORA,
            f"{src.PISSA}, section 3",
            f"{src.ADALORA}, section 3",
            f"{src.VANILLA}, abstract",
            src.BENCH,
        ),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on choosing a method.


CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "choose-when-full",
        "Full fine-tuning is always better if one can afford it.",
        "Always? What did you measure besides the task?",
        "Not what it forgets, for one: it loses more of what the base could do. On instructions LoRA on all maps keeps "
        "up. It is worth it where there is more to learn than LoRA can hold.",
        f"{src.LEARNS_LESS}, section 4", f"{src.LORA_REGRET}, introduction",
        opens=lab("fact_check", claim="full-always-best"),
    ),
    hold(
        "choose-fair-comparison",
        "One learning rate for all methods does not make a comparison fair.",
        "Equal settings are the very definition of fair.",
        "Their best rates lie orders of magnitude apart, so one rate tests which method it suits. Fair is equal "
        "effort: "
        "as many trials for each.",
        src.BENCH, opens=lab("fact_check", claim="method-matters-most"),
    ),
    give_way(
        "choose-prompt-first",
        "I would begin with LoRA at rank 16.",
        "What did the prompt reach?",
        "That has to be known first: a good prompt, examples or retrieval may do. Then data, metric and limits, and "
        "only "
        "then a method.",
        "the lab's own decision tree, which asks first whether a prompt reaches the target",
        opens=lab("choose", prompting="yes"),
    ),
    hold(
        "choose-gpus-for-full",
        "{{value}}, before any activations.",
        "{{need}} GB? The weights are far smaller than that. You need a fraction of the cards.",
        "The weights are a small part: gradients, the float32 copy and two moments come with them, sixteen bytes for "
        "each parameter.",
        f"{src.ZERO}, section 3.1",
    ),
    hold(
        "choose-few-shot",
        "With 60 examples I would not fine-tune everything.",
        "Sixty examples are sixty gradients. Full fine-tuning uses them best.",
        "It has the capacity to memorise them and varies strongly from seed to seed. A small LoRA or IA³ with early "
        "stopping is steadier; several seeds and held-out examples show it.",
        f"{src.IA3}, section 3", f"{src.FEW_SAMPLE}, abstract",
    ),
    give_way(
        "choose-variants",
        "I take the newest variant, it has beaten LoRA in its paper.",
        "At which learning rate was their LoRA trained?",
        "That is the question: tune plain LoRA first. In the published comparison DoRA cost time and gained nothing, "
        "and "
        "settings moved scores by more.",
        src.BENCH, opens=lab("fact_check", claim="dora-better"),
    ),
)  # fmt: skip
