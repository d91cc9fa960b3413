"""Questions on combining adapters: cat, linear, SVD, TIES, DARE, and routing instead."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import merging as calc
from peft_lab.interview.question import Question, then

WEIGHTED = f"{src.PEFT}, add_weighted_adapter"
GUIDE = f"{src.PEFT}, Model merging"
ask = partial(Question, topic="merging", model=None)

QUESTIONS = (
    ask(
        id="merge-cat-rank", level="basic", kind="numeric", calculate=calc.stacked, given={"ranks": (8, 16, 32)},
        question="Three adapters of ranks {{ranks}} are combined with PEFT's `combination_type='cat'`. Which rank "
        "has the result?",
        answer="{{value}}: columns of B and rows of A side by side, so the sum of the products is exact, at the "
        "price of the rank.",
        listen_for=("exact", "rank grows by addition", "memory and slots on a server grow with it"),
        wrong=("the largest of them", "the mean"),
        follow_ups=(
            then(
                "How do you bring the rank down again?",
                "By an SVD of the sum, cut to the rank you want (`svd`): the best approximation of that rank, "
                "computed per map.",
                WEIGHTED,
            ),
            then(
                "Where do the weights go?",
                "Each adapter's weight times its own scale α/r is multiplied into its A, so adapters with different "
                "scales are combined rightly.",
                WEIGHTED,
            ),
        ),
        sources=(WEIGHTED,),
    ),
    ask(
        id="merge-linear-value", level="hard", kind="numeric", calculate=calc.crossed,
        given={"first": (1, 2), "second": (3, -1)},
        question="Two adapters of rank one on a map with one input and one output: A and B are {{first}} and "
        "{{second}}, both scales are 1. PEFT's `combination_type='linear'` with weights of a half each: what is the "
        "product BA of the result?",
        answer="{{value}}, where the weighted sum of the two changes is {{wanted}}. A and B are combined apart, "
        "each with the root of the weight, so their product has cross terms that belong to neither adapter.",
        listen_for=(
            "(A₁ + A₂)(B₁ + B₂) is not A₁B₁ + A₂B₂",
            "root of the weight on each side",
            "cat or svd are exact",
        ),
        wrong=("the weighted sum of the products",),
        follow_ups=(
            then(
                "Then why is it offered?",
                "It is cheap and keeps the rank. The documentation calls it a very rough approximation to be "
                "avoided if one can afford better.",
                WEIGHTED,
            ),
            then(
                "When is it exact?",
                "When the adapters share A or share B: then the product is linear in the other factor (with the "
                "weights placed there).",
                src.ALGEBRA,
            ),
        ),
        sources=(WEIGHTED, src.ALGEBRA),
    ),
    ask(
        id="merge-which-way", level="medium", kind="free",
        question="You have to combine a style adapter and a domain adapter of different ranks into one file. "
        "Compare cat, linear, SVD, TIES and DARE for the job.",
        answer="Cat adds the changes exactly, for any ranks, and the rank becomes the sum. SVD forms the sum as a "
        "full matrix and cuts it to a rank: exact up to what is cut, needs float32 and time. Linear, and TIES and "
        "DARE in their plain forms, work on A and B apart: they need equal ranks and their product has cross terms; "
        "the `_svd` forms work on the full changes instead. TIES trims small entries and lets signs vote, DARE "
        "drops at random and rescales: both fight interference when many changes overlap. For two adapters start "
        "with cat at tuned weights, test each task, and cut by SVD if the rank is a problem.",
        listen_for=("which are exact", "equal ranks needed or not", "`_svd` variants act on ΔW", "tests both tasks"),
        wrong=("averages A and B", "believes that one recipe is best"),
        follow_ups=(
            then(
                "Why not just train on both data sets?",
                "Often better, if you have the data: merging is for when you do not, or when adapters come and go.",
                GUIDE,
            ),
            then(
                "How do you choose the weights?",
                "A small grid on held-out examples of both tasks. They need not sum to one: the changes are added, "
                "not averaged.",
                WEIGHTED,
                src.ALGEBRA,
            ),
        ),
        sources=(WEIGHTED, GUIDE),
    ),
    ask(
        id="merge-ties-entry", level="medium", kind="numeric", calculate=calc.elected,
        given={"values": (60, -50, 30)},
        question="TIES at one entry of three equally weighted task vectors that survived trimming: {{values}} "
        "hundredths. What does it merge to, in hundredths?",
        answer="{{value}}: the sum elects the sign, and the mean is taken over those that agree with it.",
        listen_for=("sign by total, not by count", "disjoint mean", "the dissenter is left out, not averaged in"),
        wrong=("the mean of all three", "the largest wins"),
        follow_ups=(
            then(
                "What were the steps before?",
                "Trim: of each task vector only the entries of largest magnitude are kept, by density; the others "
                "count as zero here.",
                f"{src.TIES}, abstract",
                GUIDE,
            ),
            then(
                "Which two kinds of interference is that against?",
                "Entries that changed little but add noise, and entries whose signs disagree and cancel.",
                f"{src.TIES}, abstract",
            ),
        ),
        sources=(f"{src.TIES}, abstract", GUIDE),
    ),
    ask(
        id="merge-dare-factor", level="basic", kind="numeric", calculate=calc.rescaled, given={"percent": 20},
        question="DARE keeps {{percent}}% of a change's entries at random (`density`). By which factor are they "
        "rescaled?",
        answer="{{value}}, so that the expected change stays what it was.",
        listen_for=("density is what is kept", "unbiased, not exact"),
        wrong=("not at all",),
        follow_ups=(
            then("How noisy is a single entry?", to="merge-dare-spread"),
            then(
                "How much can be dropped?",
                "Its authors found that 90% or even 99% of the differences of instruction-tuned models could go, "
                "and more so in larger models; the values there are small, within 0.002.",
                f"{src.DARE}, abstract",
            ),
        ),
        sources=(f"{src.DARE}, abstract", GUIDE),
    ),
    ask(
        id="merge-dare-spread", level="hard", kind="numeric", calculate=calc.spread, given={"density": 0.2},
        question="An entry of a change is kept with probability {{density}} and else set to zero; what is kept is "
        "rescaled so that the mean stays. How large is its standard deviation, in multiples of the entry?",
        answer="{{value}}. A single entry is mostly noise; outputs sum over thousands of entries, where it averages "
        "out if the entries are small and many.",
        listen_for=("variance x²(1/ρ − 1)", "works by averaging over inputs", "breaks for few large entries"),
        wrong=("zero, since the mean is kept",),
        follow_ups=(
            then(
                "What if it is done to A and B instead of to their product?",
                "Then products of two random factors arise: unbiased if both are dropped independently, but with a "
                "larger variance, and the rank structure is destroyed only in part. The `_svd` forms act on the "
                "product.",
                WEIGHTED,
                src.ALGEBRA,
            ),
            then(
                "Why does it help when merging several?",
                "Entries that survive in one adapter mostly meet zeros in the others, so there is less to disagree.",
                f"{src.DARE}, abstract",
            ),
        ),
        sources=(f"{src.DARE}, abstract", src.ALGEBRA),
    ),
    ask(
        id="merge-svd-energy", level="medium", kind="numeric", calculate=calc.energy,
        given={"singular": (8, 4, 2, 1), "kept": 2},
        question="The combined change of a map has the singular values {{singular}}. It is cut to rank {{kept}}. "
        "Which share of its squared Frobenius norm is kept?",
        answer="{{value}}. No other matrix of that rank comes nearer; whether the rest mattered, only a test on the "
        "tasks tells.",
        listen_for=("squares", "best approximation of the rank", "norm is not quality"),
        wrong=("the share of the singular values' sum", "half, as half of them are kept"),
        follow_ups=(
            then(
                "How do you find the singular values without forming BA?",
                "QR of B and of Aᵀ, then an SVD of the small r × r product of the two R factors.",
                src.ALGEBRA,
            ),
            then(
                "Why does PEFT refuse svd in 16 bits?",
                "The decomposition is not supported for float16 and bfloat16; cast to float32 for it.",
                f"{src.PEFT}, LoRA, add_weighted_adapter",
            ),
        ),
        sources=(WEIGHTED, src.ALGEBRA),
    ),
    ask(
        id="merge-route", level="hard", kind="free",
        question="Instead of merging ten adapters you could route between them. What are the options, and when do "
        "you merge, when do you route?",
        answer="By request: a classifier, the caller or the path names the adapter; cheap, exact, one adapter per "
        "request. By token and layer: a router mixes adapters, trained (X-LoRA) or without training, as Arrow does, "
        "which compares a token with each adapter's leading direction and mixes the top few. Route when tasks "
        "conflict, when requests tell their task, and when adapters change often. Merge when the abilities are "
        "needed at once in one answer, when the server takes a single model, and when a test shows that "
        "interference is small. Routing by token keeps all adapters in memory and computes several of them.",
        listen_for=(
            "granularity: request, token, layer",
            "trained against training-free routing",
            "cost of each",
            "interference as the criterion",
        ),
        wrong=("'merging always loses'", "routes by token for latency's sake"),
        follow_ups=(
            then("Compute Arrow's weights for a token.", to="merge-arrow-weight"),
            then(
                "How would you measure interference?",
                "Each task's score alone, merged, and routed by an oracle. The gap between oracle and merged is "
                "interference.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, ArrowConfig", f"{src.PEFT}, tuners, xlora", GUIDE),
    ),
    ask(
        id="merge-arrow-weight", level="medium", kind="numeric", calculate=calc.routed,
        given={"scores": (3, 1, 0), "top": 2, "temperature": 1.0},
        question="Arrow scores three adapters for a token: {{scores}}. With `top_k={{top}}` and a temperature of "
        "{{temperature}}, which share does the best one get?",
        answer="{{value}}: a softmax over the top ones only.",
        listen_for=("top-k first, then softmax", "temperature sharpens or flattens"),
        wrong=("softmax over all", "shares in proportion to the scores"),
        follow_ups=(
            then(
                "Where do the scores come from?",
                "From the token's vector and each adapter's leading right singular direction in that layer: the "
                "size of the projection. Nothing is trained.",
                f"{src.PEFT}, ArrowConfig",
                src.ALGEBRA,
            ),
            then(
                "What does a high temperature do?",
                "It evens the weights out, towards the mean of the top adapters.",
                f"{src.PEFT}, ArrowConfig, router_temperature",
            ),
        ),
        sources=(f"{src.PEFT}, ArrowConfig",),
    ),
)  # fmt: skip
