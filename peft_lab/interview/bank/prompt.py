"""What is asked after the questions on Prompt Tuning."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import NEAR_FULL, RATE, fact
from peft_lab.engine.published.rows import reserved, right
from peft_lab.interview.calculations import prompt as calc
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    few_positions,
    followed,
    give_way,
    hold,
    lab,
    prompted,
    separate_attention,
    then,
)
from peft_lab.models.shapes import ModelShape

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"
LONG = 128 * 1024  # positions of a long model


def _prefix_stored(case: Case) -> Answer:
    value = 2 * case.shape.num_layers * case.shape.kv_width * case["n"]
    return told(value, "parameters", times=value / (case["n"] * case.shape.hidden))


def _long_share(case: Case) -> Answer:
    return told(100 * case["n"] / LONG, "percent")


def _prefix_growth(case: Case) -> Answer:
    n, length = case["n"], case["length"]
    return told((n + length) / length, "times")


def _same_length(case: Case) -> Answer:
    return told(case["length"], "positions")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "prompt-count": (
        then(
            "What would Prefix Tuning with as many tokens store?",
            "{{value}}, {{times}} times as many: keys and values for every layer instead of one embedding.",
            f"{src.PREFIX}, section 4.2", calculate=_prefix_stored,
            opens=lab("prefix", model=LLAMA, num_virtual_tokens=20, tab="parameters"),
        ),
        then("Then how do the two differ in what they can do?", to="prefix-against-prompt"),
    ),
    "prompt-share": (
        then(
            "Does such a small share mean little memory in training?",
            "No. The gradient has to travel through the whole model down to the input, so activations are kept as in "
            f"LoRA, and the sequence is longer. In the published comparison Prompt Tuning reserved "
            f"{reserved('prompt_tuning-default')}, LoRA {reserved('lora-rank32')}.",
            src.BENCH, opens=lab("fact_check", claim="prompt-minimal-memory"),
        ),
        then("Give me the general rule behind that.", to="memory-fewer-parameters"),
    ),
    "prompt-soft-hard": (
        then("What do the nearest words of a trained soft prompt tell you?", to="prompt-waywardness"),
        then(
            "Can you move a soft prompt to another model of the same width?",
            "The shapes fit, but the vectors mean something in one model's embedding space only. Train it again on the "
            "new model; the old text behind it, if it started from one, can be kept. A projector that was trained on "
            "similar tasks can carry prompts over, or give the new training a start.",
            f"{src.PROMPT_TRANSFER}, abstract", src.ALGEBRA,
        ),
    ),
    "prompt-scale": (
        then(
            "What would you use instead on a model with 100 million parameters?",
            "LoRA, or full fine-tuning, which is cheap at that size; on a BERT type BitFit or adapters, too. There "
            "Prompt Tuning was clearly behind in its own paper, and deep prompts (P-Tuning v2) are what was proposed "
            "to "
            "close the gap.",
            f"{src.PROMPT}, section 3.1", src.PTUNING2,
        ),
        then(
            "Why should scale help at all?",
            "A prompt can only steer what the model is able to do already. A larger model holds more abilities that a "
            "few vectors can call up, and nothing in the network has to be rewritten. That is a reading of the result, "
            "not a proof.",
            f"{src.PROMPT}, section 3.1",
        ),
        then(
            "Show me what happens on a small one.",
            "The Lab trains each method on a small encoder at its own default learning rate: guess the order first.",
            src.RUN, opens=lab("misconceptions", belief="predict-lora-against-prompt"),
        ),
    ),
    "prompt-bytes": (
        then(
            "What else has to be kept to use it again next year?",
            "The exact base and its revision, the tokenizer, how many tokens stand where, the chat template and the "
            "verbaliser that turns words into labels. The vectors mean nothing without them.",
            src.PEFT, src.PROMPT,
        ),
        then("Then it gives nonsense, although its file is intact. What do you check?", to="serve-base-version"),
    ),
    "prompt-room": (
        then(
            "Does it matter on a model with 128k positions?",
            "Hardly for the room, {{value}} of them. For the cost it does all the same: the tokens are computed and "
            "cached in every request, and attended to by every token.",
            src.ALGEBRA, calculate=_long_share,
        ),
        then(
            "Which methods take no positions?",
            "Those that change weights or activations: LoRA, IA³, BitFit, adapters. A prefix takes no input position, "
            "but its keys and values are read like those of tokens.",
            f"{src.LORA}, section 3", src.PEFT,
        ),
        then("Which of these leave no trace at inference?", to="serve-which-merge"),
    ),
    "prompt-attention-growth": (
        then(
            "How is that for Prefix Tuning, whose tokens ask no queries?",
            "{{value}} on the same text: every text token attends to the prefix as well, but the prefix asks nothing. "
            "The growth is linear in n, not quadratic, and the linear maps have no more work at all.",
            src.ALGEBRA, calculate=_prefix_growth,
        ),
        then(
            "And in generation with a cache?",
            "Then the soft tokens are computed once, in the prefill, and afterwards cost what cached tokens cost: "
            "memory, and one more key to compare with in each step. There the two methods are alike.",
            src.ALGEBRA,
        ),
        then("What does one such token take of the cache?", to="prefix-cache"),
    ),
    "prompt-learning-rate": (
        then("How would you compare methods fairly, then?", to="choose-fair-comparison"),
        then(
            "A rate of 0.3 with Adafactor: would you take it over to AdamW?",
            "No. A rate belongs to its optimizer. In the published comparison with AdamW 1e-3 was far better than "
            f"1e-4 ({right('prompt_tuning-lr_0.001')} against {right('prompt_tuning-default')} right). Start there and "
            "sweep by factors of three.",
            src.BENCH, f"{src.PROMPT}, section 3",
        ),
        then(
            "Show me the effect of a rate that is too small.",
            "The same data and steps at two rates a hundred times apart, run in the Lab with LoRA.",
            src.RUN, opens=lab("misconceptions", belief="predict-learning-rate"),
        ),
    ),
    "prompt-start": (
        then(
            "What happens when the text has fewer tokens than the prompt?",
            "PEFT repeats the text's tokens until the prompt is full, and cuts it off where it is longer. So a number "
            "of virtual tokens that fits the sentence is part of the setting.",
            src.PEFT, opens=lab("prompt", model=SMOL, prompt_tuning_init="TEXT", tab="modules"),
        ),
        then(
            "Start from an instruction or from class labels: which, and why?",
            "For classification the labels, as the paper did: the prompt then begins near the words that it has to "
            "call up. For generation an instruction. And measure the untrained start first: it may already be half the "
            "result.",
            f"{src.PROMPT}, section 3.2",
        ),
        then(
            "How far did the tokens move from their start?",
            "*Look inside* shows for each token how far it went and which words lie nearest.",
            src.RUN, opens=lab("prompt", model=SMOL, tab="look inside"),
        ),
    ),
    "prompt-matching-lora": (
        then(
            "Would that many tokens be as good as the LoRA?",
            "Not for having the same count. The paper saw little gain beyond twenty tokens or so on large models, and "
            "the tokens act at the input only. Besides they would cost context, cache and attention.",
            f"{src.PROMPT}, section 3.2",
        ),
        then(
            "Then what would you hold equal in a comparison, if not parameters?",
            "What your job limits: memory, time for a step, cost of a request, and the effort put into tuning. Count "
            "parameters beside it.",
            src.BENCH,
        ),
        then("Others used one rate and one seed for all. What is wrong with that?", to="choose-fair-comparison"),
    ),
    "prompt-seq2seq": (
        then(
            "How would you find out which parameters never change?",
            "Take one step and list where the gradient is zero or missing, or compare the adapter before and after a "
            "short run without weight decay. Here half of the rows stay exactly as they were.",
            src.RUN,
        ),
        then(
            "Does it matter, beyond the count?",
            "The file is twice as large as need be, Adam keeps moments for rows that never move, and weight decay may "
            "shrink them. And whoever reports the count as the method's size reports twice too much.",
            src.PEFT, src.ALGEBRA,
        ),
        then(
            "Show me the count.",
            "The page counts them on the model and says what the formula gives.",
            src.PEFT, opens=lab("prompt", model="t5-base", num_virtual_tokens=20, tab="parameters"),
        ),
    ),
    "prompt-logits-length": (
        then(
            "And with Prefix Tuning?",
            "{{value}}, as many as were fed: the prefix is there as past keys and values, and nothing is computed for "
            "it. So labels need no padding.",
            src.PEFT, src.RUN, calculate=_same_length,
        ),
        then(
            "Your own loss compares logits and labels by position. What does it report if you forget the shift?",
            "No error where the lengths are cut to fit: it compares each label with logits that belong to a position "
            "further left. The loss is high and falls slowly, which looks like a bad method.",
            src.ALGEBRA,
        ),
        then(
            "Show me.",
            "The Lab runs a model with a soft prompt and counts the positions that come back.",
            src.RUN, opens=lab("misconceptions", belief="predict-prompt-length"),
        ),
    ),
    "prompt-waywardness": (
        then(
            "Which experiment would show what a soft token does?",
            "Take it away or swap it for another and measure what changes: the score, single answers, the attention "
            "that lands on it. Or move it in small steps and watch the output. Effects are evidence, neighbours are "
            "not.",
            src.WAYWARD, src.ALGEBRA,
        ),
        then(
            "Your nearest words are exactly the initial text. What does that tell you?",
            "That it hardly moved in direction, at least: either the start was good, or the learning rate was too "
            "small. Compare the norm of the change with that of the start, and the score with the untrained prompt's.",
            src.ALGEBRA, opens=lab("prompt", model=SMOL, prompt_tuning_init="TEXT", tab="look inside"),
        ),
        then("Why is the rate so often too small?", to="prompt-learning-rate"),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on Prompt Tuning.


MODEL = "llama-3.2-3b"
ask = partial(Question, topic="prompt", model=MODEL, fits=prompted)


def seq2seq(shape: ModelShape) -> bool:
    """Whether the model has an encoder and a decoder."""
    return shape.kind == "seq2seq"


_ASKED = (
    ask(
        id="prompt-count", level="basic", kind="numeric", calculate=calc.count, given={"n": 20},
        question="How many parameters does Prompt Tuning with {{n}} virtual tokens train on {{model}} (hidden size "
        "{{hidden}})?",
        answer="{{value}}: one embedding per token. That is {{share}} of all parameters.",
        listen_for=("n times the width of an embedding", "independent of depth"),
        wrong=("multiplies by the layers", "multiplies by the vocabulary"),
        sources=(f"{src.PROMPT}, section 2",),
    ),
    ask(
        id="prompt-share", level="basic", kind="numeric", calculate=calc.share_of_model, model="gpt2",
        given={"n": 8},
        question="Prompt Tuning with {{n}} tokens on {{model}} ({{total}} parameters, hidden size {{hidden}}): "
        "which share of all parameters is trained?",
        answer="{{value}}, that is {{trained}} numbers. The share falls as models grow: width grows slower than "
        "the number of parameters.",
        listen_for=("orders of magnitude: thousands out of hundreds of millions", "larger models, smaller share"),
        wrong=("a percentage from memory, for every model",),
        sources=(f"{src.PROMPT}, section 2",),
    ),
    ask(
        id="prompt-soft-hard", level="basic", kind="free", model=None,
        question="What is a soft prompt, and how does it differ from a prompt that you type?",
        answer="A typed prompt is a sequence of words, each looked up in the embedding table. A soft prompt is a "
        "few vectors of the same size that are put in front of those and learned by gradient descent. They need "
        "not be the embedding of any word, so they can express what no text can, but they cannot be read or moved "
        "to another model.",
        listen_for=(
            "A soft prompt is a few continuous vectors at the input, as wide as embeddings, not words.",
            "They are learned by gradient descent while the model is frozen.",
            "A typed prompt is made of words that are looked up in the embedding table.",
            "A soft prompt cannot be read and is bound to one model.",
        ),
        wrong=(
            "that the model searches for better words", "that the model's embedding table is trained",
            "'it can be decoded into readable text or used with any other model'",
        ),
        sources=(f"{src.PROMPT}, sections 2 and 7",),
    ),
    ask(
        id="prompt-scale", level="basic", kind="free", model=None,
        facts=(fact("prompt", NEAR_FULL, (1e10, 1.1e10)),),
        question="'Prompt Tuning matches full fine-tuning.' Under which condition is that true?",
        answer="In the paper it closes the gap as models grow and matches full tuning at about 11 billion "
        "parameters (T5-XXL). On small models it is clearly behind, and it depends more than others on learning "
        "rate, start and length of training.",
        listen_for=(
            "Only at scale: at about ten billion parameters (T5-XXL) it matches.",
            "On small models it is clearly behind.", "It is sensitive to learning rate, start and length of training.",
        ),
        wrong=(
            "unconditionally", "that more tokens make up for a small model",
            "'it holds for small models and fails for large ones'",
        ),
        sources=(f"{src.PROMPT}, section 3.1 and figure 1",),
    ),
    ask(
        id="prompt-bytes", level="medium", kind="numeric", calculate=calc.tensor_bytes, given={"n": 20},
        question="A trained prompt of {{n}} tokens for {{model}} (hidden size {{hidden}}) is stored in float32. "
        "How many bytes of numbers is that?",
        answer="{{value}}. {{per_gigabyte}} such tasks fit into a gigabyte.",
        listen_for=("four bytes per number", "what that means for serving many tasks"),
        wrong=("forgets the bytes per number",),
        sources=(src.PROMPT, src.PEFT),
    ),
    ask(
        id="prompt-room", level="medium", kind="numeric", calculate=calc.room, model="bert-base",
        fits=few_positions, given={"n": 100},
        question="{{model}} has {{positions}} positions. Which share of them does a soft prompt of {{n}} tokens "
        "take?",
        answer="{{value}}, leaving {{left}} for text. A text that used to fit can now run past the last position.",
        listen_for=(
            "positions are shared between prompt and text",
            "the failure is an index error or silent truncation",
        ),
        wrong=("that soft tokens need no positions",),
        sources=(src.RUN, f"{src.PROMPT}, section 2"),
    ),
    ask(
        id="prompt-attention-growth", level="medium", kind="numeric", calculate=calc.attention_growth, model=None,
        given={"n": 100, "length": 412},
        question="An encoder reads texts of {{length}} tokens. You put {{n}} soft tokens in front. By which factor "
        "does the number of query-key pairs in each layer grow?",
        answer="{{value}}: quadratic in the length, while the linear maps' work grows by {{linear}} only.",
        listen_for=("attention is quadratic, the rest linear", "so prompts are not free at inference"),
        wrong=("(n + T)/T", "no growth, since parameters hardly grow"),
        sources=(f"{src.TRANSFORMER}, section 4",),
    ),
    ask(
        id="prompt-learning-rate", level="medium", kind="free", model=None,
        facts=(fact("prompt", RATE, 0.3, optimizer="adafactor", live="no"),),
        question="Why does Prompt Tuning want a learning rate hundreds of times larger than fine-tuning?",
        answer="The loss reaches the prompt through the whole frozen network, so the effect of each number is "
        "small, and the numbers have to travel far from where they start: embeddings have a certain norm, and "
        "nothing else can move. The paper used 0.3 with Adafactor. In the published comparison on a 3B model 1e-4 "
        f"gave {right('prompt_tuning-default')} and 1e-3 gave {right('prompt_tuning-lr_0.001')} accuracy: the same "
        "method, another verdict.",
        listen_for=(
            "The loss reaches the prompt only through the whole frozen network, so the effect or gradient of each "
            "number is small.",
            "Few numbers must carry the whole change, so they have to move far from where they start.",
            "An order of magnitude: 0.3 with Adafactor in the paper, or 1e-3 and up.",
            "Nothing that is pretrained can be destroyed, as the model is frozen.",
            "Settings can matter more than the choice of method.",
        ),
        wrong=(
            "uses the full fine-tuning rate and concludes that the method is bad",
            "'its gradients are large and need a high rate'",
        ),
        sources=(f"{src.PROMPT}, section 3", src.BENCH),
    ),
    ask(
        id="prompt-start", level="medium", kind="free", model=None,
        question="How can a soft prompt be initialised, and how much does it matter?",
        answer="With noise, with embeddings of sampled words, with the embeddings of a written instruction, or of "
        "the class labels. Words beat noise, as the frozen model was trained on inputs of that size and kind; the "
        "difference shrinks with model size. In the published comparison vocabulary instead of noise raised "
        f"accuracy from {right('prompt_tuning-lr_0.001')} to {right('prompt_tuning-sample_vocab-lr_0.001')}.",
        listen_for=(
            "names the options",
            "why embeddings of words are a good region",
            "largest effect on small models",
        ),
        wrong=("'it converges to the same thing anyway'",),
        sources=(f"{src.PROMPT}, section 3.2", src.BENCH),
    ),
    ask(
        id="prompt-matching-lora", level="hard", kind="numeric", calculate=calc.matching_tokens,
        fits=separate_attention, given={"r": 1},
        question="How many soft tokens on {{model}} have as many parameters as LoRA of rank {{r}} on its query and "
        "value maps?",
        answer="{{value}}. LoRA grows with depth and a prompt does not; LoRA takes no room of the context and a "
        "prompt does.",
        listen_for=("LoRA scales with depth, a prompt does not",),
        wrong=("forgets that LoRA sits in each layer",),
        sources=(f"{src.PROMPT}, section 2", f"{src.LORA}, section 4.2"),
    ),
    ask(
        id="prompt-seq2seq", level="hard", kind="numeric", calculate=calc.seq2seq_rows, model="t5-base",
        fits=seq2seq, given={"n": 20},
        question="PEFT's Prompt Tuning on the encoder-decoder model {{model}} (hidden size {{hidden}}) with "
        "`num_virtual_tokens={{n}}`: how many trainable parameters does it report?",
        answer="{{value}}: it makes a table for both halves of the model, and its forward pass reads the first "
        "half only. {{used}} of them ever learn.",
        listen_for=("a count is not the number of useful parameters", "would check gradients"),
        wrong=("n · d, as on a causal model",),
        sources=(src.PEFT, src.RUN),
    ),
    ask(
        id="prompt-logits-length", level="hard", kind="numeric", calculate=calc.returned_length, model=None,
        given={"n": 20, "length": 64},
        question="A causal model with a soft prompt of {{n}} tokens is fed {{length}} tokens. For how many "
        "positions do logits come back, and what must happen to the labels?",
        answer="For {{value}}. The labels get as many ignored entries in front, or the loss compares the wrong "
        "positions. PEFT does it for labels that you pass in; code that computes its own loss has to.",
        listen_for=(
            "the sequence really is longer",
            "pads labels with the ignored index",
            "checks metrics that index into the logits",
        ),
        wrong=("that PEFT cuts the virtual positions off again",),
        sources=(src.PEFT, src.RUN),
    ),
    ask(
        id="prompt-waywardness", level="hard", kind="free", model=None,
        question="You look up the vocabulary's nearest neighbours of each trained soft token and they read like "
        "nonsense. What may you conclude?",
        answer="Little. Nearest neighbours in the embedding table are not what the model does with a vector. "
        "Prompts can be trained that solve a task and whose neighbours spell an arbitrary other text, so a "
        "readable projection is no evidence of meaning, nor is nonsense evidence of failure. Clusters of task "
        "words do occur, and so does a start that hardly moved.",
        listen_for=(
            "projection is not interpretation",
            "the waywardness result",
            "compare with the starting text before reading anything into it",
        ),
        wrong=("that the prompt must have overfitted", "that the words explain the model"),
        sources=(src.WAYWARD, f"{src.PROMPT}, section 7"),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on Prompt Tuning.


CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "prompt-share",
        "With so few parameters it must need the least memory in training.",
        "What does the gradient pass through on its way to the prompt?",
        "The whole model. Activations are kept, the sequence is longer, and the optimizer, where it does save, was "
        "small "
        "for LoRA already. In the published comparison its peak was above LoRA's.",
        src.BENCH, opens=lab("fact_check", claim="fewer-is-less-memory"),
    ),
    hold(
        "prompt-count",
        "{{value}}, whatever the depth.",
        "You forgot the layers: every layer sees the prompt.",
        "Every layer sees it, but only the input embeddings are trained. What they become above is computed by the "
        "frozen model.",
        f"{src.PROMPT}, section 2",
    ),
    give_way(
        "prompt-scale",
        "Prompt Tuning matches full fine-tuning.",
        "On which model?",
        "On the largest of its paper, with about eleven billion parameters. On smaller ones it was clearly behind.",
        f"{src.PROMPT}, section 3.1",
    ),
    hold(
        "prompt-waywardness",
        "That its neighbours read like nonsense tells me little.",
        "It tells you that the prompt has overfitted. A good one reads like an instruction.",
        "Prompts can be trained that solve a task while their neighbours spell an arbitrary other text. The nearest "
        "word is not what the model does with a vector.",
        src.WAYWARD,
    ),
    hold(
        "prompt-logits-length",
        "For {{value}}, so my labels need ignored entries in front.",
        "The library cuts the virtual positions off again. You would shift your labels wrongly.",
        "It does not cut them off: PEFT lengthens the labels that are passed in, and the logits come back long. Print "
        "the shape.",
        src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-prompt-length"),
    ),
)  # fmt: skip
