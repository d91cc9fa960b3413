"""What is asked after the questions on LoRA."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import TARGETS, fact
from peft_lab.engine.published.rows import right, slower
from peft_lab.interview.calculations import lora as calc
from peft_lab.interview.computed import Answer, Case, both, entries, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    gated,
    give_way,
    hold,
    lab,
    separate_attention,
    then,
)

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"


def _value_map(case: Case) -> Answer:
    return told(case["r"] * both(case.matrix("v")), "parameters")


def _same_budget(case: Case) -> Answer:
    """The rank at which query and value maps alone cost as much as all maps at the question's rank."""
    names = [case.shape.target_name(case.matrix(role)) for role in ("q", "v")]
    budget = case.trained("lora", r=case["r"], target_modules=["all-linear"])
    return told(budget // case.trained("lora", r=1, target_modules=names))


def _wider(case: Case) -> Answer:
    """The compression of a map with twice the inputs and outputs."""
    q = case.matrix("q")
    return told(2 * entries(q) / (case["r"] * both(q)))


def _full_rank_cost(case: Case) -> Answer:
    v = case.matrix("v")
    return told(min(v.in_features, v.out_features) * both(v) / entries(v))


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "lora-one-map": (
        then(
            "And for the value map of the same layer?",
            "{{value}}: it has {{v_out}} outputs, as many as the key/value heads are wide together, and under "
            "grouped-query attention these are fewer than the query heads.",
            f"{src.GQA}, section 2", f"{src.LORA}, section 4.1", calculate=_value_map,
            opens=lab("lora", model=LLAMA, r=16, target_modules=("v_proj",), tab="parameters"),
        ),
        then("From which rank on are A and B no longer smaller than the map?", to="lora-break-even"),
    ),
    "lora-query-value": (
        then("What changes if you adapt every linear map?", to="lora-all-linear"),
        then("How large is the file of this adapter?", to="serve-adapter-file"),
    ),
    "lora-all-linear": (
        then(
            "Spend the same budget on the query and value maps alone. Which rank do you get?",
            "A rank of {{value}}. That is the trade: many small corrections, or two large ones in each layer.",
            f"{src.LORA}, section 4.2", calculate=_same_budget,
            opens=lab("lora", model=LLAMA, r=16, target_modules="all-linear", tab="parameters"),
        ),
        then("So would you rather raise the rank or adapt more maps?", to="lora-which-targets"),
    ),
    "lora-break-even": (
        then(
            "And at the rank at which BA can be any matrix, how large are A and B?",
            "That rank is the smaller side of the map, and there A and B hold {{value}} times as many parameters as "
            "the map itself. Full rank through two factors always costs more than the matrix.",
            src.ALGEBRA, calculate=_full_rank_cost,
        ),
        then(
            "Does LoRA at that rank equal full fine-tuning?",
            "In what it can express, yes. In how it learns, no: the gradient reaches the matrix through two factors of "
            "which one starts at zero, the product is scaled by α/r, and the optimizer keeps its moments for A and B, "
            "not for W. The path differs, and so does the solution that is found.",
            f"{src.LORA}, section 4.1", src.ALGEBRA,
        ),
        then(
            "You double the rank again and again at a fixed α, and it learns no better. Why?",
            "Either there is no more to learn, or α/r takes it back: it falls as r rises, so every direction counts "
            "less. Dividing by √r instead lets a larger rank make a larger correction; try that, with its rate tuned, "
            "before you say which it is.",
            f"{src.RSLORA}, section 3",
            opens=lab("lora", model=SMOL, r=64, lora_alpha=16, use_rslora=True, tab="train"),
        ),
    ),
    "lora-scale": (
        then(
            "What would you do to α when you raise r?",
            "Keep it at first: with α/r in front the first update then moves the outputs about as far at any rank, and "
            "a rate that was tuned stays near its best. Raised with r, every direction keeps its weight, so the update "
            "grows and the rate has to be tuned again; rsLoRA's α/√r lies between. What one should not do is compare "
            "ranks at a rate that suits one of them only.",
            f"{src.LORA}, section 4.1", f"{src.RSLORA}, section 3",
            f"{src.LORA_REGRET}, Optimal learning rate and rank",
        ),
        then(
            "Why is α often called a learning rate in disguise?",
            "ΔW is (α/r)·BA, so doubling α doubles what every step on A and B does to the matrix. Under Adam the step "
            "itself hardly depends on the size of the gradient, so A and B move about as far as before. The paper says "
            "so too: with a suitable start, tuning α is roughly the same as tuning the rate, and therefore it fixes α.",
            f"{src.LORA}, section 4.1",
        ),
        then(
            "Show me that twice α is twice the correction.",
            "With A, B and r unchanged, ΔW doubles exactly: the experiment in the Lab measures it.",
            src.ALGEBRA, src.RUN, opens=lab("misconceptions", belief="predict-alpha"),
        ),
    ),
    "lora-rslora": (
        then(
            "Why does α/r make large ranks learn slowly?",
            "The sum over r directions grows like √r when they are independent, not like r. Dividing by r therefore "
            "over-corrects: the correction and the gradients of A and B shrink as r grows. Dividing by √r keeps both "
            "at the same size. In the first steps they are not independent but pull the same way, and then the sum "
            "does grow like r: that is why others found one best rate for all ranks with α/r.",
            f"{src.RSLORA}, section 3", f"{src.LORA_REGRET}, Optimal learning rate and rank",
        ),
        then(
            "At which rank do the two scales agree, and what follows for small ranks?",
            "At a rank of one both are α. At small ranks they differ by a factor of √r, which a change of the learning "
            "rate absorbs; so rsLoRA is worth a thought at large ranks, or in a sweep over ranks at one rate.",
            src.ALGEBRA,
            opens=lab("lora", model=SMOL, r=64, lora_alpha=16, use_rslora=True),
        ),
    ),
    "lora-scale-drop": (
        then(
            "How would you set up a fair comparison of ranks?",
            "Say how α goes with r (kept, raised with it, or rsLoRA), tune the learning rate for every rank with the "
            "same number of trials, use several seeds, the same data and steps, and show the spread. Report the count "
            "and the time beside the score.",
            f"{src.RSLORA}, section 3", f"{src.LORA_REGRET}, Optimal learning rate and rank",
        ),
        then(
            "Does the best learning rate move with the rank, then?",
            "With α/r in front and α kept it hardly does: a study over many ranks found the best rate nearly the same "
            "from small to large ranks. That speaks for the division by r, and makes a rank sweep at one tuned rate "
            "less unfair than it looks.",
            f"{src.LORA_REGRET}, Optimal learning rate and rank",
        ),
        then(
            "And where would I see what more rank buys?",
            "On the page's *Try it* tab rank by rank, with α growing along: the same steps, the same data.",
            src.RUN, opens=lab("lora", model="minilm-l6", tab="try it"),
        ),
    ),
    "lora-dora-extra": (
        then(
            "Can DoRA be merged?",
            "Yes. After training, magnitude and direction are constants, so the rescaled matrix is computed once and "
            "stored in W's place. Unmerged every forward pass has to measure the norms of W + ΔW, which is why PEFT's "
            "documentation recommends merging for inference.",
            src.DORA, src.PEFT,
        ),
        then(
            "What did it gain in the published comparison?",
            f"Nothing there: {right('lora-rank32-dora')} right answers against {right('lora-rank32')} of plain LoRA at "
            f"the same rank, in one run each, and a step took {slower('lora-rank32-dora', 'lora-rank32')} longer. The "
            "paper reports gains on its own tasks, most of all at low rank; so it is something to try, not to assume.",
            src.BENCH, src.DORA,
        ),
        then(
            "Show me what is added.",
            "With DoRA on, one magnitude vector stands at every adapted map, and the count rises by its length.",
            src.PEFT, opens=lab("lora", model=LLAMA, r=16, use_dora=True, tab="modules"),
        ),
    ),
    "lora-summed-rank": (
        then(
            "How would you subtract a merged adapter again?",
            "Compute its scaled product BA and subtract it from the merged matrix. That is exact on paper only: the "
            "sum was rounded when it was stored, so a trace remains, the larger the coarser the format. Keeping the "
            "base and loading it again is cleaner.",
            src.ALGEBRA, src.PEFT,
        ),
        then(
            "Two adapters are to become one. What does averaging A and B separately do?",
            "It is not the average of the corrections. (B₁+B₂)(A₁+A₂)/4 contains the cross terms B₁A₂ and B₂A₁, which "
            "neither adapter has learnt, and only half of the wanted mean. Stack the factors instead: [B₁ B₂] times A₁ "
            "over A₂ is exactly the sum, at the summed rank.",
            src.ALGEBRA,
        ),
        then(
            "The summed rank is too large for your server. What now?",
            "Take the singular value decomposition of the sum and keep the largest directions: the best approximation "
            "of that rank. How much is lost is known beforehand, from the singular values that are cut off.",
            src.ALGEBRA, src.PEFT,
        ),
    ),
    "lora-compression": (
        then(
            "And on a map with twice the inputs and twice the outputs?",
            "{{value}}: the matrix grows with the square, A and B grow with the sides, so the factor doubles.",
            src.ALGEBRA, calculate=_wider,
        ),
        then("Does memory shrink by the same factor?", to="memory-not-saved"),
    ),
    "lora-why-b-zero": (
        then(
            "What if both were zero? What if both were random?",
            "Both zero: nothing ever moves, since the gradient of each contains the other. Both random: it learns, but "
            "the product is noise added to a good model before the first step. Recent work finds that small random "
            "starts of both need not hurt, and are less sensitive to a low learning rate; what is lost is the "
            "guarantee of starting from the pretrained model.",
            src.ALGEBRA, f"{src.NON_ZERO}, abstract",
        ),
        then(
            "And A = 0 with B random instead?",
            "The product is zero as well, so it also starts at the pretrained model, and the first gradient goes to A "
            "instead of B. But the two starts are not equal in training: the usual one does better on average.",
            f"{src.LORA_INIT}, abstract",
        ),
        then(
            "What does that do to the largest usable learning rate?",
            "With B = 0 and A random a larger rate can be used before the outputs become unstable, and features are "
            "learnt more efficiently. That is the explanation the paper gives, from the limit of wide networks, for "
            "why the usual start wins.",
            f"{src.LORA_INIT}, abstract",
        ),
        then(
            "Show me the first step.",
            "*Look inside* shows the gradients of a run's first step: zero for A, not for B, in every adapted map.",
            src.RUN, opens=lab("lora", model=SMOL, tab="look inside"),
        ),
    ),
    "lora-both-zero": (
        then(
            "Would weight decay or momentum help?",
            "No. Weight decay multiplies zeros, momentum adds up zero gradients, and Adam divides zero by its small "
            "constant. Only a start off the saddle helps, or noise that is put in on purpose.",
            src.ALGEBRA, f"{src.ADAM}, algorithm 1",
        ),
        then(
            "LoRA+ gives A and B different learning rates. Why might that help?",
            "They play different parts: A starts at its size and reads the wide input, B has to grow from zero. In the "
            "limit of wide networks one common rate cannot let both learn efficiently; B wants the larger one. So "
            "LoRA+ fixes a ratio above one and tunes a single rate.",
            f"{src.LORAPLUS}, abstract",
            opens=lab("lora", model=SMOL, loraplus_lr_ratio=16.0, tab="train"),
        ),
        then(
            "Show me that it never moves.",
            "The Lab trains both starts side by side: with B = 0 alone the loss falls, with both at zero it stays.",
            src.RUN, opens=lab("misconceptions", belief="predict-both-zero"),
        ),
    ),
    "lora-why-low-rank": (
        then(
            "How would you check on your own run whether the rank was enough?",
            "Train at half and at twice the rank, with the scale kept and several seeds. If the held-out loss does not "
            "move, the rank was enough. Then look at ΔW's singular values: a spectrum that has fallen off long before "
            "r says the same, one that is cut off while still high says that there was more to learn.",
            f"{src.LORA}, section 7.2",
            opens=lab("lora", model=SMOL, r=64, lora_alpha=128, tab="look inside"),
        ),
        then(
            "And what decides how much rank is needed?",
            "How much there is to learn, that is the information in the data set, against the number of adapter "
            "parameters. A small set of instructions fits into a small rank; once the data hold more than the "
            "adapter can, learning falls behind full fine-tuning.",
            f"{src.LORA_REGRET}, How much capacity is needed",
        ),
        then("So when is full fine-tuning worth it?", to="choose-when-full"),
    ),
    "lora-pissa": (
        then(
            "Why might it converge faster?",
            "A and B start along the directions in which W is strongest, both away from zero, so both get a gradient "
            "at once and the first steps act where the matrix acts. The ordinary start has to find its directions "
            "from noise.",
            f"{src.PISSA}, section 3",
        ),
        then(
            "Which other starts change the base?",
            "Those that take something out of W and put it into the adapter: OLoRA by a QR decomposition, CorDA by one "
            "that is guided by data, LoRA-GA from the gradient, LoftQ together with the quantised base. EVA takes A "
            "from the activations' directions and leaves B at zero, so the base stays as it is.",
            src.PEFT,
        ),
        then(
            "Show me that switching it off does not give the model back.",
            "The Lab compares the outputs with the adapter on and off, before any training: on they are the original "
            "ones, off they are not.",
            src.RUN, opens=lab("misconceptions", belief="predict-pissa-off"),
        ),
    ),
    "lora-which-targets": (
        then(
            "Attention or feed-forward: if you could have one of them only?",
            "The feed-forward maps. In a recent study LoRA on attention alone fell behind LoRA on the feed-forward "
            "maps, even where a higher rank gave both as many parameters; and adding attention to them brought nothing "
            "more.",
            f"{src.LORA_REGRET}, Layers Where LoRA Is Applied",
        ),
        then(
            "When would you adapt the embeddings or the output layer, too?",
            "When tokens are new or change their meaning: added special tokens, another language. Frozen embeddings of "
            "new tokens stay at their random start. PEFT can train the rows of a few tokens alone, or a whole "
            "full copy of the layer by `modules_to_save`, which then counts and is stored as such.",
            src.PEFT,
        ),
        then("And if embeddings and output layer are tied?", to="lora-tied-head"),
    ),
    "lora-tied-head": (
        then(
            "How would you notice in a test?",
            "Compare the logits of some texts before and after merging, with a tolerance from the number format: they "
            "differ by far more than rounding. And check whether input and output embeddings are still one tensor.",
            src.RUN,
        ),
        then(
            "You need the output layer adapted all the same. What are your ways out?",
            "Give the output layer a copy of its own first and say in the config that they are not tied any more, at "
            "the price of one more vocabulary matrix. Or serve the adapter unmerged. Or train the embeddings "
            "deliberately, as one matrix with two uses.",
            src.PEFT, src.ALGEBRA,
        ),
        then("So when would you merge at all, and when keep an adapter apart?", to="serve-merged-or-not"),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on LoRA.


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


# ----------------------------------------
# Doubts about answers on LoRA.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "lora-query-value",
        "{{value}}.",
        "I multiply by twice the query map's share in every layer and get another number. Are you sure about yours?",
        "Look at the value map: it has {{v_out}} outputs, the query map {{q_out}}. Each is multiplied with what it "
        "has; "
        "only where both are equally wide does the short cut agree.",
        f"{src.GQA}, section 2", f"{src.LORA}, section 4.1",
        opens=lab("lora", model="llama-3.2-3b", r=16, tab="parameters"),
    ),
    hold(
        "lora-why-b-zero",
        "A is random and B is zero, so the first gradient goes to B alone.",
        "That cannot be: a matrix of zeros passes nothing on, so B learns nothing.",
        "The gradient of B is the outer product of the incoming gradient with A x. It contains A, not B, and A is not "
        "zero. It is A whose gradient contains B and vanishes, for one step.",
        src.ALGEBRA, src.RUN, opens=lab("misconceptions", belief="predict-first-gradient"),
    ),
    give_way(
        "lora-scale-drop",
        "I raised the rank and kept α. The result was no better, so rank does not matter on this task.",
        "What did α/r do to each direction, and was the rate tuned at both ranks?",
        "It made each count {{value}} times less, which takes back what more of them add in the first steps. Tune the "
        "rate at both ranks, or try α/√r, before you say that the rank does not matter.",
        f"{src.LORA}, section 4.1", f"{src.RSLORA}, section 3",
    ),
    give_way(
        "lora-why-low-rank",
        "LoRA works because the weight matrices of a pretrained model have low rank.",
        "Have you looked at their singular values?",
        "Weight matrices have high rank. The assumption is about their change: that adapting to a task needs few "
        "directions.",
        f"{src.LORA}, section 7.2", src.INTRINSIC,
    ),
    hold(
        "lora-tied-head",
        "With tied embeddings the merged model is not the one that was trained.",
        "Merging is exact up to rounding, whatever you adapt. Every textbook says so.",
        "It is exact for a matrix with one use. Here one matrix reads tokens and scores them; the adapter corrected "
        "the scoring only, and merging corrects both.",
        src.PEFT, src.RUN,
    ),
    hold(
        "lora-dora-extra",
        "DoRA adds the same {{value}} at any rank.",
        "DoRA doubles LoRA's parameters, everybody knows that.",
        "It adds one magnitude for each output of an adapted map. A and B are LoRA's own. What it costs is time, for "
        "the norms.",
        src.DORA, src.PEFT, opens=lab("lora", model="llama-3.2-3b", use_dora=True, tab="parameters"),
    ),
)  # fmt: skip
