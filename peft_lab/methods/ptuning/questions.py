"""Questions on P-Tuning and its second version."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import RUNS, fact
from peft_lab.methods.ptuning import calculations as calc
from peft_lab.methods.ptuning.follow_ups import FOLLOW_UPS
from peft_lab.quiz.fits import one_stack, prompted
from peft_lab.quiz.question import Question, followed

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
