"""What is asked after the questions on Prompt Tuning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.published import reserved, right
from peft_lab.quiz.working import told

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
