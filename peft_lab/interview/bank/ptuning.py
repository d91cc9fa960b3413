"""What is asked after the questions on P-Tuning."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import RUNS, fact
from peft_lab.interview.calculations import ptuning as calc
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    give_way,
    hold,
    lab,
    one_stack,
    prompted,
    then,
)

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"
SINGLE, MOMENTS = 4, 2


def _default_width(case: Case) -> Answer:
    value = case.trained("ptuning", num_virtual_tokens=case["n"], encoder_hidden_size=case.shape.hidden)
    return told(value, "parameters", width=case.shape.hidden)


def _moments(case: Case) -> Answer:
    value = case.trained("ptuning", num_virtual_tokens=case["n"], encoder_hidden_size=case.shape.hidden)
    kept = told(case["n"] * case.shape.hidden * MOMENTS * SINGLE, "bytes").shown
    return told(value * MOMENTS * SINGLE, "bytes", tokens=kept)


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "ptuning-stored": (
        then("Then why train an encoder at all?", to="ptuning-why-encoder"),
        then(
            "And how would you prove that nothing is lost by throwing it away?",
            "Compute the virtual tokens once with the encoder, save them, and compare the outputs with the encoder's "
            "on some texts: they are equal, because the encoder never sees the text.",
            src.PEFT, f"{src.PTUNING}, section 2",
            opens=lab("ptuning", model=SMOL, num_virtual_tokens=20, tab="parameters"),
        ),
    ),
    "ptuning-against-prompt": (
        then("Where in the input did the P-Tuning paper put its tokens?", to="ptuning-template"),
        then(
            "Both at inference, side by side: can you tell from the adapter which one it was?",
            "Not from the stored numbers: both are a few vectors of the embedding's width in front of the text. Only "
            "the config says how they were found.",
            src.PEFT, opens=lab("ptuning", model=SMOL, tab="modules"),
        ),
    ),
    "ptuning-why-encoder": (
        then(
            "Which other method reparameterises its tokens in training?",
            "Prefix Tuning with its projection: a table and an MLP make the keys and values of all layers, and only "
            "their output is kept.",
            f"{src.PREFIX}, section 4.3", opens=lab("prefix", model=SMOL, prefix_projection=True, tab="modules"),
        ),
        then("And why could its authors throw the MLP away?", to="prefix-why-projection"),
    ),
    "ptuning-mlp": (
        then(
            "What changes with PEFT's default width?",
            "The default is the model's hidden size, {{width}} here, and all three layers become square: {{value}}.",
            src.PEFT, calculate=_default_width,
            opens=lab("ptuning", model=LLAMA, num_virtual_tokens=20, tab="parameters"),
        ),
        then("How many times what is stored is that?", to="ptuning-default-width"),
    ),
    "ptuning-default-width": (
        then(
            "What does this do to optimizer memory?",
            "Adam's float32 moments take {{value}}; for the virtual tokens alone they would take {{tokens}}. Beside "
            "the weights it is still little, but it is all for something that is thrown away.",
            f"{src.ADAM}, algorithm 1", calculate=_moments,
        ),
        then(
            "Which of PEFT's prompt methods trains the most at its defaults? Guess.",
            "The Lab asks it and counts; the answer surprises most people.",
            src.PEFT, opens=lab("misconceptions", belief="predict-ptuning-size"),
        ),
    ),
    "ptuning-thrown-away": (
        then(
            "For which methods are trained and stored parameters equal?",
            "For those that store what they train: LoRA, QLoRA's adapter, IA³, BitFit, adapters, Prompt Tuning, and a "
            "prefix without projection. They differ for P-Tuning and for a prefix with projection, which train a "
            "network to make what they store.",
            src.PEFT,
        ),
        then("So where does a prefix stand, with projection?", to="prefix-projected-share"),
    ),
    "ptuning-v2-count": (
        then("Which class of PEFT do you use for it?", to="ptuning-v2-in-peft"),
        then(
            "Does the count depend on the text's length or the number of labels?",
            "Not on the length. The labels come in with the classification head, which is trained beside the prompts "
            "and should be counted as a part of its own.",
            f"{src.PTUNING2}, section 3.3", src.ALGEBRA,
            opens=lab("ptuning", model="bert-base", version="v2", tab="parameters"),
        ),
    ),
    "ptuning-v1-v2": (
        then(
            "How is it related to Prefix Tuning?",
            "In mechanism it is Prefix Tuning: trained keys and values in every layer. What is new is where it is "
            "used, on understanding and tagging tasks, and how: a linear head, lengths chosen by task, "
            "reparameterisation optional.",
            f"{src.PTUNING2}, sections 3.2 and 3.3",
        ),
        then("Then run it with PEFT. What goes wrong?", to="ptuning-v2-in-peft"),
    ),
    "ptuning-lstm": (
        then(
            "Why might the MLP be the better default?",
            "It is far smaller at the same width, it runs in parallel instead of token by token, and the tokens are a "
            "handful: there is little for a recurrence to gain. The LSTM stands for the first version of the idea, "
            "coupling neighbouring tokens.",
            f"{src.PTUNING}, section 2", src.PEFT,
            opens=lab("ptuning", model=LLAMA, encoder_reparameterization_type="LSTM", tab="parameters"),
        ),
        then("How large is the MLP, by the same default?", to="ptuning-default-width"),
    ),
    "ptuning-v2-in-peft": (
        then(
            "How would you check that the prefix really takes part?",
            "Change one of its vectors and see whether the output changes. Look at its gradients in the first step. "
            "Measure how much attention lands on it. And count what is trainable: a head alone learns, too, and hides "
            "that the prefix does nothing.",
            src.RUN, opens=lab("ptuning", model="minilm-l6", version="v2", tab="look inside"),
        ),
        then("Why does an encoder refuse it?", to="prefix-on-encoders"),
    ),
    "ptuning-template": (
        then(
            "Would the position matter for a causal model?",
            "Yes. A token can influence what comes after it only, so virtual tokens behind the text cannot change how "
            "the text itself is read, only the answer. In front they are seen by everything.",
            src.ALGEBRA,
        ),
        then(
            "And for an encoder that reads in both directions?",
            "There every token sees every other, wherever it stands, and only position embeddings tell places apart. "
            "Slots around the masked answer still differ from slots in front: they stand near what they are to "
            "change.",
            src.ALGEBRA, f"{src.PTUNING}, section 2",
        ),
        then("What is a soft prompt in general, against one that you type?", to="prompt-soft-hard"),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on P-Tuning and its second version.


MODEL = "llama-3.2-3b"
ask = partial(Question, topic="ptuning", model=MODEL, fits=prompted)

_ASKED = (
    ask(
        id="ptuning-stored", level="basic", kind="numeric", calculate=calc.stored, given={"n": 20},
        question="P-Tuning with {{n}} virtual tokens on {{model}} (hidden size {{hidden}}), PEFT's MLP encoder. "
        "How many parameters are stored after training?",
        answer="{{value}}, {{bytes}} MB in float32, of {{trained}} that were trained: the encoder's output is a "
        "constant, so only the virtual tokens are kept.",
        listen_for=("n · d", "the encoder is a reparameterisation"),
        wrong=("stores the encoder as well",),
        sources=(f"{src.PTUNING}, section 2", src.PEFT),
    ),
    ask(
        id="ptuning-against-prompt", level="basic", kind="choice", model=None, correct=2,
        options=(
            "P-Tuning changes the attention, Prompt Tuning the embeddings",
            "P-Tuning trains the embedding table, Prompt Tuning does not",
            "P-Tuning makes its virtual tokens with a small trained encoder, Prompt Tuning learns them directly",
            "P-Tuning is for decoders, Prompt Tuning for encoders",
        ),
        question="What tells P-Tuning (version 1) from Prompt Tuning?",
        answer="The encoder: an LSTM or MLP turns a trained table into the virtual tokens, which couples them and "
        "eases optimisation. At inference the two look alike: a few extra input embeddings.",
        listen_for=("an encoder in training only", "same form at inference"),
        wrong=("that P-Tuning acts in every layer: that is version 2",),
        because=(
            "That virtual tokens must act inside the layers. Those of Prefix Tuning and of version 2 do; both methods "
            "here act at the input.",
            "That 'trained embeddings' means the model's own table. It is frozen in both.",
            "",
            "That it depends on the kind of model the paper used. Both run on encoders and on decoders.",
        ),
        sources=(f"{src.PTUNING}, section 2", f"{src.PROMPT}, section 4"),
    ),
    ask(
        id="ptuning-why-encoder", level="basic", kind="free", model=None,
        question="Why put an encoder in front of virtual tokens, if only its output is used?",
        answer="Independent vectors are hard to optimise: each gets its own weak signal, and a random start is far "
        "from anything the model has seen. An encoder shares parameters between the tokens, so they move together "
        "and depend on each other, as words of a sentence do. It changes how the solution is found, not which "
        "solutions exist.",
        listen_for=(
            "Independent vectors are hard to optimise: each has its own weak signal, and a random start is far off.",
            "The encoder shares parameters, so that the tokens move together and depend on each other.",
            "It changes how a solution is found, not which ones exist: afterwards only the output is kept.",
        ),
        wrong=("that the encoder reads the input text", "'the encoder has to be kept and run at inference'"),
        sources=(f"{src.PTUNING}, section 2",),
    ),
    ask(
        id="ptuning-mlp", level="medium", kind="numeric", calculate=calc.mlp, given={"n": 20, "width": 128},
        question="P-Tuning on {{model}} (hidden size {{hidden}}) with {{n}} tokens and an MLP encoder of width "
        "{{width}}: three linear layers with biases. How many parameters are trained?",
        answer="{{value}}, {{share}} of all.",
        listen_for=("d → h → h → d and the table", "biases"),
        wrong=("counts the tokens only", "two layers instead of three"),
        sources=(f"{src.PTUNING}, section 2", src.PEFT),
    ),
    ask(
        id="ptuning-default-width", level="medium", kind="numeric", calculate=calc.default_width, given={"n": 20},
        question="P-Tuning on {{model}} with {{n}} tokens and PEFT's default encoder: an MLP of three linear "
        "layers, as wide as the hidden size {{hidden}}. How many parameters are trained?",
        answer="{{value}}, {{share}} of all: {{times}} times what is stored, for an encoder that is then "
        "discarded.",
        listen_for=("quadratic in the hidden size", "sets the width deliberately"),
        wrong=("'a small MLP', without asking how wide",),
        sources=(src.PEFT, src.RUN),
    ),
    ask(
        id="ptuning-thrown-away", level="medium", kind="numeric", calculate=calc.thrown_away,
        given={"n": 20, "width": 128},
        question="P-Tuning on {{model}} with {{n}} tokens and an MLP encoder of width {{width}}. Which share of "
        "the trained parameters is not stored?",
        answer="{{value}}. So name which figure you mean: trained parameters tell the memory in training, stored "
        "ones the size of the file.",
        listen_for=("trained against stored",),
        wrong=("one minus the share of the model",),
        sources=(f"{src.PTUNING}, section 2",),
    ),
    ask(
        id="ptuning-v2-count", level="medium", kind="numeric", calculate=calc.deep_prompts, model="bert-base",
        fits=one_stack, given={"n": 20},
        question="P-Tuning v2 puts {{n}} trained keys and values into every layer of {{model}} ({{layers}} layers, "
        "keys {{kv_width}} wide). How many parameters, without a head?",
        answer="{{value}}, {{share}} of all: Prefix Tuning's count, because without its projection it is the same "
        "thing.",
        listen_for=("depth times two times width times tokens", "a classification head comes on top"),
        wrong=("counts input embeddings only",),
        sources=(f"{src.PTUNING2}, section 3.2",),
    ),
    ask(
        id="ptuning-v1-v2", level="medium", kind="free", model=None,
        question="What did P-Tuning v2 change, and which claim did it make?",
        answer="Prompts in every layer instead of the input alone, no verbaliser but an ordinary classification "
        "head, reparameterisation optional, prompt length chosen by task. The claim: tuned so, prompts are on a "
        "par with fine-tuning across model sizes from a few hundred million parameters and on hard sequence tasks "
        "such as tagging, where version 1 and Prompt Tuning fall behind.",
        listen_for=(
            "Prompts in every layer instead of at the input alone.",
            "The claim: on a par with fine-tuning across model sizes, small ones as well.",
            "And on hard sequence tasks such as tagging or extraction.",
            "An ordinary classification head instead of a verbaliser; the reparameterising encoder became optional.",
        ),
        wrong=("'v2 is v1 with an MLP'", "'the claim holds for very large models only'"),
        sources=(f"{src.PTUNING2}, section 3",),
    ),
    ask(
        id="ptuning-lstm", level="hard", kind="numeric", calculate=calc.lstm, given={"n": 20, "lstm_layers": 2},
        question="P-Tuning on {{model}} with the LSTM encoder: bidirectional, {{lstm_layers}} layers, as wide as "
        "the hidden size $d$ = {{hidden}}, then linear layers $2d \\to 2d \\to d$; {{n}} tokens. How many "
        "parameters are trained?",
        answer="{{value}}, {{share}} of all, for what ends as {{n}} vectors. The default width was made for "
        "smaller models.",
        listen_for=("four gates, two directions, two bias vectors each", "later layers read 2h inputs"),
        wrong=("counts one direction", "calls it a small LSTM without a number"),
        sources=(f"{src.PTUNING}, section 2", src.PEFT),
    ),
    ask(
        id="ptuning-v2-in-peft", level="hard", kind="free", model=None,
        facts=(fact("prefix", RUNS, "encoder", "never", through="peft"),),
        question="You are asked to run P-Tuning v2 with the PEFT library. There is no class of that name. What do "
        "you do, and where can it fail?",
        answer="`PrefixTuningConfig` with the projection off is deep prompting; with `task_type='SEQ_CLS'` the "
        "head is trained and saved beside it. It goes through the key/value cache, so it is refused for BERT "
        "classifiers with a recent transformers, and on encoder-decoder models only the decoder's side gets a "
        "prefix. On encoders you have to add keys and values in the attention function yourself.",
        listen_for=("prefix without projection", "the head", "encoder classifiers take no past keys and values"),
        wrong=("`PromptEncoderConfig`: that is version 1",),
        sources=(src.PEFT, src.RUN, f"{src.PTUNING2}, section 3.2"),
    ),
    ask(
        id="ptuning-template", level="hard", kind="free", model=None,
        question="In the P-Tuning paper virtual tokens do not just stand in front. Where do they stand, and what "
        "does PEFT do?",
        answer="They are slots in a template around the input and the masked answer, and chosen real words may "
        "stay as anchors. PEFT puts all virtual tokens in front of the text, so results with hand-placed templates "
        "are not what its implementation reproduces.",
        listen_for=("template with slots", "anchor tokens", "difference between paper and library named"),
        wrong=("that both are the same",),
        sources=(f"{src.PTUNING}, section 2", src.PEFT),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on P-Tuning.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "ptuning-stored",
        "{{value}}; the encoder is not kept.",
        "Without the encoder you cannot make the tokens again, so it has to be in the file.",
        "Its output is a constant, as it never sees the text. The tokens are computed once and stored.",
        f"{src.PTUNING}, section 2", src.PEFT,
    ),
    give_way(
        "ptuning-default-width",
        "It is a small MLP, so I left the width at its default.",
        "How wide is the default?",
        "As wide as the model: {{value}} are trained, {{times}} times what is stored. Set the width on purpose.",
        src.PEFT, opens=lab("ptuning", model="llama-3.2-3b", tab="parameters"),
    ),
    give_way(
        "ptuning-v1-v2",
        "Version 2 is version 1 with another encoder.",
        "At which layers do its tokens act?",
        "At all of them. Version 2 has trained keys and values in every layer and may do without any encoder; version "
        "1 has tokens at the input.",
        f"{src.PTUNING2}, section 3.2",
    ),
    hold(
        "ptuning-v2-in-peft",
        "I use `PrefixTuningConfig` with the projection off.",
        "`PromptEncoderConfig` is PEFT's P-Tuning. Take that.",
        "That is version 1: an encoder whose tokens act at the input. Deep prompts are a prefix without projection.",
        src.PEFT, f"{src.PTUNING2}, section 3.2",
    ),
    hold(
        "ptuning-why-encoder",
        "The encoder helps the search. It does not make anything representable that was not before.",
        "More parameters, more capacity. That is why it scores better.",
        "At inference there are the same few vectors, and any of them could have been learnt directly. What differs is "
        "the way there: shared parameters move the tokens together.",
        f"{src.PTUNING}, section 2",
    ),
)  # fmt: skip
