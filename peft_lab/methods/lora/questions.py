"""Questions on LoRA."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import TARGETS, fact
from peft_lab.methods.lora import calculations as calc
from peft_lab.methods.lora.follow_ups import FOLLOW_UPS
from peft_lab.quiz.fits import gated, separate_attention
from peft_lab.quiz.question import Question, followed

MODEL = "llama-3.2-3b"
ask = partial(Question, topic="lora", model=MODEL)

_ASKED = (
    ask(
        id="lora-one-map", level="basic", kind="numeric", calculate=calc.one_map, fits=separate_attention,
        given={"r": 16},
        question="LoRA of rank {{r}} adapts one query map of {{model}}, {{q_name}} with {{q_in}} inputs and "
        "{{q_out}} outputs. How many parameters does that add?",
        answer="$r(d_{in} + d_{out})$: A holds r rows of inputs and B r columns of outputs, together {{value}}. "
        "That is {{share}} of the matrix they correct.",
        listen_for=(
            "A is $r \\times d_{in}$, B is $d_{out} \\times r$",
            "the cost is linear in the rank",
            "W itself stays and is not counted",
        ),
        wrong=(
            "$2dr$ for every matrix: true for square ones only",
            "$r^2$: no matrix of that shape is trained in LoRA",
        ),
        sources=(f"{src.LORA}, section 4.1",),
    ),
    ask(
        id="lora-query-value", level="medium", kind="numeric", calculate=calc.query_value, fits=separate_attention,
        given={"r": 16},
        question="How many parameters does LoRA of rank {{r}} on the query and value maps of {{model}} train? It "
        "has {{layers}} layers, hidden size {{hidden}}, {{heads}} query heads and {{kv_heads}} key/value heads of "
        "size {{head_dim}}.",
        answer="{{value}}, {{share}} of all parameters. A query map has {{q_out}} outputs and costs {{q_each}}, a "
        "value map has {{v_out}} and costs {{v_each}}.",
        listen_for=(
            "reads the heads before multiplying: v is only kv_heads × head_dim wide",
            "multiplies by the layers",
            "gives a share at once",
        ),
        wrong=(
            "takes v to be as wide as q where there are fewer key/value heads",
            "takes the number of heads for that of layers: a published tutorial's figure for Llama 3.2 3B makes both "
            "slips",
            "counts one layer",
        ),
        sources=(f"{src.LORA}, section 4.2", f"{src.GQA}, section 2"),
    ),
    ask(
        id="lora-all-linear", level="medium", kind="numeric", calculate=calc.every_map, fits=gated, given={"r": 16},
        question="How many parameters does LoRA of rank {{r}} on every linear map of {{model}}'s {{layers}} blocks "
        "(hidden {{hidden}}, feed-forward {{intermediate}}, keys and values {{kv_width}} wide) train?",
        answer="{{value}}. The attention maps are only {{attention}} of it: the feed-forward part has the widest "
        "matrices, and there are three of them.",
        listen_for=(
            "seven maps per block: q, k, v, o, gate, up, down",
            "most of the cost is in the feed-forward part",
        ),
        wrong=(
            "forgets the gate of a gated feed-forward part",
            "adds the output layer: PEFT's `all-linear` leaves it out",
        ),
        sources=(f"{src.QLORA}, section 4 and figure 2", f"{src.LORA}, section 7.1"),
    ),
    ask(
        id="lora-break-even", level="hard", kind="numeric", calculate=calc.break_even, fits=separate_attention,
        question="At which rank do A and B on a value map of {{model}} ({{v_in}} inputs, {{v_out}} outputs) hold "
        "as many parameters as the map itself?",
        answer="At {{value}}, where $r(d_{in}+d_{out})$ reaches $d_{in} d_{out}$. For the query map it is "
        "{{q_even}}.",
        listen_for=(
            "sets the two counts equal and solves for r",
            "the narrow side decides",
            "sees that this is far above useful ranks",
        ),
        wrong=(
            "names the smaller dimension: there the rank stops limiting, but A and B are already larger than W",
        ),
        sources=(f"{src.LORA}, section 4.1",),
    ),
    ask(
        id="lora-scale", level="basic", kind="numeric", calculate=calc.plain_scale, model=None,
        given={"alpha": 16, "r": 64},
        question="LoRA with α = {{alpha}} and r = {{r}}: what is the product BA multiplied by?",
        answer="By α/r = {{value}}.",
        listen_for=("α/r, so raising the rank alone makes the correction smaller",),
        wrong=("α itself", "r/α"),
        sources=(f"{src.LORA}, section 4.1",),
    ),
    ask(
        id="lora-rslora", level="medium", kind="numeric", calculate=calc.rank_stabilised, model=None,
        given={"alpha": 16, "r": 64},
        question="Rank-stabilised LoRA (`use_rslora=True`) with α = {{alpha}} and r = {{r}}: what is BA multiplied "
        "by?",
        answer="By α/√r = {{value}}, which is {{ratio}} times the {{plain}} of plain LoRA.",
        listen_for=(
            "the square root keeps the size of the correction independent of r",
            "matters at large ranks only",
        ),
        wrong=("that it changes the parameter count", "that it is a different initialisation"),
        sources=(f"{src.RSLORA}, section 3",),
    ),
    ask(
        id="lora-scale-drop", level="medium", kind="numeric", calculate=calc.scale_drop, model=None,
        given={"r": 8, "larger": 64},
        question="You raise r from {{r}} to {{larger}} and leave α alone. How many times smaller does LoRA's "
        "scaling factor become?",
        answer="{{value}} times. With rsLoRA it would be {{rooted}} times. Every direction counts that much less, and "
        "there are as many more of them: a comparison of ranks has to say which α and rate each was given.",
        listen_for=(
            "the scale is inversely proportional to r",
            "a fair sweep over ranks says how α goes with r and tunes the learning rate at each",
        ),
        wrong=("that nothing changes because α is the scale",),
        sources=(f"{src.LORA}, section 4.1", f"{src.RSLORA}, section 3"),
    ),
    ask(
        id="lora-dora-extra", level="medium", kind="numeric", calculate=calc.magnitudes, fits=separate_attention,
        question="How many parameters does DoRA train on top of LoRA on the query and value maps of {{model}} "
        "({{layers}} layers, outputs {{q_out}} and {{v_out}})?",
        answer="As PEFT has it, one magnitude per output of each adapted map: {{value}}, whatever the rank. The "
        "paper writes one per column instead, of a matrix whose columns stand for the inputs.",
        listen_for=(
            "one number per output row, independent of r",
            "the price is time, not parameters: the norm of W + ΔW is needed in every step",
        ),
        wrong=("that it doubles LoRA's count",),
        sources=(src.DORA, src.BENCH),
    ),
    ask(
        id="lora-summed-rank", level="hard", kind="numeric", calculate=calc.summed_rank, fits=separate_attention,
        given={"r": 16, "other": 8},
        question="You merge two LoRA adapters, of rank {{r}} and rank {{other}}, into the same query map. What is "
        "the largest rank that the total change of W can have?",
        answer="{{value}}: the sum of both products is again a product of two thin matrices, stacked side by side.",
        listen_for=(
            "ranks add at most",
            "so a sum can be stored again as one adapter without loss, at the summed rank",
        ),
        wrong=(
            "the larger of the two",
            "that a merged matrix has full rank, so the change has as well: W has, ΔW has not",
        ),
        sources=(src.ALGEBRA, f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="lora-compression", level="basic", kind="numeric", calculate=calc.compression, fits=separate_attention,
        given={"r": 8},
        question="How many times fewer parameters does LoRA of rank {{r}} train on {{q_name}} of {{model}} "
        "({{q_out}} × {{q_in}}) than training the matrix itself?",
        answer="{{value}} fewer: $d_{in} d_{out}$ against $r(d_{in}+d_{out})$.",
        listen_for=("the factor grows with the width of the model", "so LoRA's share shrinks on larger models"),
        wrong=("d/r: off by two for a square matrix, since A and B are both trained",),
        sources=(f"{src.LORA}, section 4.1",),
    ),
    ask(
        id="lora-why-b-zero", level="basic", kind="free", model=None,
        question="Why does LoRA start B at zero and A at random values?",
        answer="With B = 0 the product BA is zero, so the adapted model is exactly the pretrained one before the "
        "first step and training starts from a known good point. A must not be zero as well: the gradient of B "
        "contains A x, so a random A lets B move at once, and A follows when B has left zero.",
        listen_for=(
            "With B = 0 the product is zero, so the adapted model starts out as the pretrained one.",
            "One of the two must not be zero: with both at zero neither would get a gradient.",
            "In the first step only B gets a gradient; that of A is zero until B has moved.",
        ),
        wrong=(
            "to save memory", "so that weights stay small: this is about the starting point, not regularisation",
            "'both could start at zero and would still learn'", "'A gets the first gradient'",
        ),
        sources=(f"{src.LORA}, section 4.1", src.RUN),
    ),
    ask(
        id="lora-both-zero", level="hard", kind="free", model=None,
        question="A colleague initialises both A and B with zeros 'to be safe'. The loss curve is flat. Derive "
        "why.",
        answer="With $h = W_0x + s\\,BAx$ and $g = \\partial L/\\partial h$ the gradients are $\\partial "
        "L/\\partial B = s\\,g\\,(Ax)^\\top$ and $\\partial L/\\partial A = s\\,B^\\top g\\,x^\\top$. Each "
        "contains the other matrix, so at A = B = 0 both vanish and stay zero for every input: a saddle point that "
        "gradient descent cannot leave. With A random only the second one is zero, for one step.",
        listen_for=(
            "The gradient of B contains A (or Ax), and that of A contains B: each contains the other factor.",
            "At A = B = 0 both gradients vanish, and they stay zero, so nothing is ever learnt.",
            "It is a saddle point, not a local minimum.", "One random factor, usually A, is enough to get going.",
        ),
        wrong=(
            "blames the learning rate", "says that zero weights always fail: zero B alone is fine, as are zero biases",
            "'only one of the gradients vanishes'",
        ),
        sources=(src.ALGEBRA, src.RUN),
    ),
    ask(
        id="lora-why-low-rank", level="medium", kind="free", model=None,
        question="Why should a low-rank correction be enough? Say what is assumed and when you would doubt it.",
        answer="The assumption is about the change, not the weights: adapting a pretrained model to a task needs "
        "few directions, because most features are there already. Pretrained models can be tuned in surprisingly "
        "small random subspaces, and LoRA's own tests found small ranks as good as large ones on its tasks. Doubt "
        "it when much new knowledge has to go in, as in continued pretraining on a new language or on code: there "
        "full fine-tuning learns more and its change has a much higher rank.",
        listen_for=(
            "The assumption is about the change, not about the weights: what adaptation adds needs few directions.",
            "Evidence: intrinsic dimension, that is models can be tuned in small random subspaces, or LoRA's own "
            "tests.", "Doubt it where much new has to be learnt: continued pretraining, a new language, code.",
        ),
        wrong=(
            "that pretrained weight matrices are themselves of low rank", "that a higher rank is always better",
            "'low rank is enough for any task'",
        ),
        sources=(src.INTRINSIC, f"{src.LORA}, section 7.2", f"{src.LEARNS_LESS}, section 4"),
    ),
    ask(
        id="lora-pissa", level="hard", kind="free", model=None,
        question="PiSSA starts A and B from the top singular vectors of W. What does that change about the base "
        "model, and what can go wrong later?",
        answer="The principal part moves into the adapter, so the frozen matrix keeps only the residual: W is "
        "split, not copied. At step 0 the sum is still W, but the base alone is not the original model any more. "
        "Disabling the adapter, sharing the base between adapters, or loading the saved A and B on the untouched "
        "model all give wrong outputs; convert it to a plain LoRA difference before sharing.",
        listen_for=(
            "The top part of W moves into the adapter, so the frozen base is only the residual.",
            "Base plus adapter equals W at the start.",
            "The base alone is no longer the original: disabling the adapter, sharing the base, or loading onto the "
            "original weights goes wrong.", "Convert it to a plain LoRA difference before sharing.",
        ),
        wrong=(
            "that it is only another random start", "that B is zero here too",
            "'disabling the adapter gives the original model back'",
        ),
        sources=(f"{src.PISSA}, section 3", src.RUN),
    ),
    ask(
        id="lora-which-targets", level="medium", kind="free", model=None,
        facts=(fact("lora", TARGETS, "every linear map"),),
        question="Which matrices would you adapt first, and how would you decide between a higher rank on few and "
        "a lower rank on many?",
        answer="Query and value maps are the historic default and the cheapest start. With the budget fixed, "
        "spreading a small rank over more matrices has mostly beaten a large rank on few: LoRA's paper saw that "
        "for attention maps, and QLoRA needed all linear maps to match full fine-tuning. Then tune the learning "
        "rate for each setting, because the scale and the number of moving parts change together.",
        listen_for=(
            "coverage before rank",
            "one budget for the comparison",
            "learning rate tuned for each setting",
        ),
        wrong=("'always q and v, the paper says so'", "raising the rank as the first remedy for a poor result"),
        sources=(f"{src.LORA}, section 7.1", f"{src.QLORA}, section 4"),
    ),
    ask(
        id="lora-tied-head", level="hard", kind="free", model=None,
        question="You add `lm_head` to the LoRA targets of a model with tied embeddings, train, and merge. What "
        "have you changed?",
        answer="Tied models use one matrix for reading tokens and for scoring them. While the adapter is apart "
        "only the output side is corrected. Merging adds the correction to the shared matrix, so the input "
        "embeddings change as well and the merged model is not the one that was trained. Untie first, or leave the "
        "output layer alone.",
        listen_for=(
            "One matrix serves both as input embedding and as output layer.",
            "Merging changes the shared matrix, so the input embeddings change as well.",
            "The merged model is not the one that was trained: unmerged only the output side was corrected.",
            "Remedy: untie first, leave the head out, or compare outputs before and after merging.",
        ),
        wrong=(
            "that merging is always exact up to rounding",
            "'in training the correction acts on the embeddings as well'",
        ),
        sources=(src.PEFT, src.RUN),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)
