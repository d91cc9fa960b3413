"""What is asked after the questions on LoRA."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.published import right, slower
from peft_lab.quiz.working import both, entries, told

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
