"""Questions on choosing a method."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import FIRST, MERGES, RUNS, SEEDS, fact
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.calculations import choosing as calc
from peft_lab.quiz.fits import gated, one_stack, prefixed, separate_attention
from peft_lab.quiz.follow_ups.choosing import FOLLOW_UPS
from peft_lab.quiz.published import slower
from peft_lab.quiz.question import Question, followed
from peft_lab.units import Source

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
