"""Questions on Prompt Tuning."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import NEAR_FULL, RATE, fact
from peft_lab.methods.prompt import calculations as calc
from peft_lab.methods.prompt.follow_ups import FOLLOW_UPS
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.fits import few_positions, prompted, separate_attention
from peft_lab.quiz.published import right
from peft_lab.quiz.question import Question, followed

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
