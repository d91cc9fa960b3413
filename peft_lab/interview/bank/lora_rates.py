"""Questions on LoRA's rate, targets, batch and rank, and on where it differs from full fine-tuning."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import lora_rates as calc
from peft_lab.interview.question import Question, gated, lab, separate_attention, then

MODEL = "llama-3.2-3b"
RATES = f"{src.LORA_REGRET}, Optimal learning rate and rank"
LAYERS = f"{src.LORA_REGRET}, Layers Where LoRA Is Applied"
CAPACITY = f"{src.LORA_REGRET}, How much capacity is needed"
REWARDS = f"{src.LORA_REGRET}, Reinforcement learning"
ask = partial(Question, topic="lora", model=None)

QUESTIONS = (
    ask(
        id="lora-rate-tenfold", level="basic", kind="numeric", calculate=calc.tenfold, given={"full": 20},
        question="Full fine-tuning of a language model works best at a learning rate of {{full}} millionths. Which "
        "rate would you try first for LoRA on the same data, by the ratio found in 'LoRA Without Regret'? In "
        "millionths.",
        answer="{{value}}: the best rate of LoRA was consistently ten times that of full fine-tuning. In runs of "
        "about a hundred steps or fewer the ratio was nearer to fifteen ({{short}}).",
        listen_for=(
            "a ratio, not a remembered rate",
            "says for which runs the ratio was found",
            "would still try a factor of three on either side",
        ),
        wrong=("keeps the rate of full fine-tuning", "lowers it, because a frozen model is fragile"),
        follow_ups=(
            then(
                "Why is the ratio larger in very short runs?",
                "B starts at zero, so in the first steps A hardly moves the output and B has to grow before LoRA "
                "learns at full speed. A short run spends a larger part of itself there, and a higher rate shortens "
                "it.",
                RATES,
            ),
            then("Does the ratio depend on the rank?", to="lora-rate-rank"),
        ),
        sources=(
            f"{src.LORA_REGRET}, Optimal learning rates for LoRA vs. FullFT",
            f"{src.TRL}, PEFT integration, recommended learning rates",
        ),
    ),
    ask(
        id="lora-rate-rank", level="medium", kind="free",
        question="You tuned the learning rate of LoRA at rank 8 with the usual scale α/r. Now you want rank 128. Do "
        "you tune the rate again?",
        answer="At first, no, if you keep α. With the scale α/r each of the r pairs of vectors adds a share of 1/r, "
        "so the first update moves the outputs about as far at any rank, and the best rate was found to be about "
        "independent of the rank. With rsLoRA's α/√r it is not: there a higher rank makes the update larger, and the "
        "rate has to fall. Check the ends of the range with two short runs.",
        listen_for=(
            "No: with the scale α/r the best rate is about independent of the rank, so it can stay at first.",
            "Dividing by r cancels the growth of the sum over r pairs, so the first update has the same size.",
            "With rsLoRA's α/√r it is different: the update grows with the rank and the rate has to fall.",
        ),
        wrong=(
            "'more parameters, smaller rate', as a rule", "scales α with r and keeps the rate, which changes both",
            "'rsLoRA keeps the rate the same'",
        ),
        follow_ups=(
            then(
                "Is there a theory of it?",
                "Yes, later than the finding. An analysis of wide layers and large ranks has two regimes: in one the "
                "best rate hardly depends on the rank, in the other it falls as the rank grows. Which of them holds "
                "depends on the scale in front of BA and on which factor starts at zero.",
                f"{src.RATE_SCALING}, abstract",
            ),
            then(
                "And if you keep α/r constant by raising α with r?",
                "Then every pair keeps its weight and the sum of them grows with r, so the update is larger at the "
                "same rate. You have changed the effective rate, and a comparison of ranks mixes the two.",
                RATES,
                src.ALGEBRA,
                opens=lab("lora", model="smollm2-135m", r=128, lora_alpha=16),
            ),
            then(
                "Why is α called a learning rate in disguise?",
                "Because scaling A, B and α against each other leaves the product and Adam's path unchanged: of α, "
                "the two rates and the start of A only some combinations matter. With A's start fixed the disguise is "
                "not perfect: a later preprint gained from a larger α what no rate gave.",
                RATES,
                f"{src.SCALE_FACTOR}, abstract",
            ),
        ),
        sources=(RATES, f"{src.RSLORA}, section 4", f"{src.TRL}, LoRA Without Regret"),
    ),
    ask(
        id="lora-rate-invariance", level="hard", kind="numeric", calculate=calc.invariant_rates, given={"factor": 4},
        question="You divide α by {{factor}}. A's start is enlarged so that training with Adam can go exactly as "
        "before (ε and weight decay aside). By which factor must the learning rates of A and B grow?",
        answer="{{value}}. The product keeps its value if A and B each take the square root of the factor, and "
        "Adam's step does not depend on the gradient's size, so a rate that is larger by the same root moves them "
        "along the same path.",
        listen_for=(
            "the product γBA is what counts",
            "Adam's step has the size of the rate",
            "so α, rates and start are not independent knobs",
        ),
        wrong=("by the whole factor", "not at all, since Adam normalises"),
        follow_ups=(
            then(
                "Would SGD behave the same?",
                "No. With SGD the step is the rate times the gradient, and B's gradient carries A and γ. Scaling A "
                "by p and γ by 1/p² divides it by p, while B has to move p times as far: the rate must grow by p².",
                src.ALGEBRA,
            ),
            then(
                "Where does weight decay break this?",
                "Decoupled decay shrinks A and B by rate times decay each step; with larger rates the decay of the "
                "product is stronger, unless the decay coefficient is divided by the same factor.",
                src.ALGEBRA,
            ),
        ),
        sources=(RATES, f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="lora-attention-rank", level="medium", kind="numeric", calculate=calc.attention_rank, model=MODEL,
        fits=gated, given={"r": 16},
        question="At which rank on the four attention maps alone does LoRA on {{model}} train as many parameters as "
        "at rank {{r}} on the three feed-forward maps alone? (q {{q_in}}/{{q_out}}, k and v {{k_in}}/{{k_out}}, o "
        "{{o_in}}/{{o_out}}; gate and up {{up_in}}/{{up_out}}, down {{down_in}}/{{down_out}})",
        answer="At {{value}}. Such pairs were trained and compared: with as many parameters, attention alone stayed "
        "behind the feed-forward part.",
        listen_for=(
            "inputs and outputs are added, per map",
            "equal parameters make the comparison fair",
            "the conclusion is about where, not how many",
        ),
        wrong=("the same rank", "attention needs fewer parameters, so a lower rank"),
        follow_ups=(
            then("So where do you put LoRA?", to="lora-mlp-or-attention"),
            then(
                "Does a higher rank on attention make up for it?",
                "No: in the published runs attention alone underperformed even where its rank was raised until the "
                "parameters were as many.",
                LAYERS,
                f"{src.TRL}, LoRA Without Regret",
            ),
        ),
        sources=(LAYERS, f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="lora-mlp-or-attention", level="medium", kind="free",
        question="The LoRA paper adapted query and value maps. Would you still? Attention, feed-forward, or both?",
        answer="All linear maps, and if only one part, the feed-forward part. The original choice was made under a "
        "budget of parameters on GPT-3. Later studies agree: QLoRA needed every linear map to match full "
        "fine-tuning, on code most of the gain came from the feed-forward maps, and in 'LoRA Without Regret' "
        "attention alone lost to the feed-forward part at equal parameters, while adding attention to it gained "
        "nothing. The cost is more parameters and more saved activations.",
        listen_for=(
            "Adapt all linear maps, attention and feed-forward.",
            "If only one part, the feed-forward maps: attention alone is worse even at equal parameters.",
            "It names evidence: QLoRA's or later studies' comparisons.",
            "The cost: more parameters and more activations in memory.",
        ),
        wrong=(
            "'attention is where the meaning is'", "raises the rank on q and v instead",
            "'attention alone is better than the feed-forward part'",
        ),
        follow_ups=(
            then(
                "What does it cost at training time?",
                "Each adapted map keeps its input for A's gradient, so activations grow with the number of adapted "
                "maps, and the trained parameters, their gradients and moments grow with the widths.",
                f"{src.LORA}, section 4.2",
                src.RUN,
            ),
            then(
                "When would you stay with q and v?",
                "When adapters are stored by the thousand or slots on a server are the limit, and a test shows that "
                "the task does not need more.",
                f"{src.LORA}, section 7.1",
            ),
        ),
        sources=(LAYERS, f"{src.QLORA}, section 4, figure 2", f"{src.LEARNS_LESS}, section 4.7"),
    ),
    ask(
        id="lora-large-batches", level="medium", kind="free",
        question="With eight times the GPUs you raise the batch from 32 to 256. Full fine-tuning keeps its loss per "
        "example, LoRA falls behind. Bug or known?",
        answer="Known, in some settings: LoRA was found to be less tolerant of large batches than full fine-tuning, "
        "and the gap grew with the batch. A higher rank did not close it, so it is not capacity; the product BA has "
        "other training dynamics than W itself. At a batch of 32 it was small. So for LoRA spend the GPUs on more runs "
        "or on accumulation-free data parallelism at a batch of about 32, and compare at equal numbers of examples.",
        listen_for=(
            "It is known: LoRA tolerates large batches less than full fine-tuning.",
            "A higher rank does not close the gap, so it is not a matter of capacity.",
            "The cause is the product BA, which trains with other dynamics than W itself.",
            "Keep the batch near 32 or compare at equal numbers of examples.",
        ),
        wrong=("raises the rank", "blames the learning rate alone", "'it is a bug'"),
        follow_ups=(
            then(
                "How would you make sure that it is not the rate?",
                "Tune the rate at each batch size for both methods, then compare the best of each. The published "
                "gap is between tuned runs.",
                f"{src.LORA_REGRET}, Batch size effects",
            ),
            then(
                "So is 32 the batch for LoRA?",
                "It is where to begin. The gap was seen on ten thousand rows of reasoning. A later study finds that "
                "the best batch depends on the rank, the size of the data and the model, and that what LoRA's "
                "variants gain turns on it: tune it beside the rate.",
                f"{src.LORA_REGRET}, Batch size effects",
                f"{src.BATCH_BIAS}, abstract",
            ),
            then(
                "What does that mean for a job with a deadline?",
                "Updates are serial: fewer, larger batches are faster in hours and worse in loss. Plan with the "
                "batch that still learns, and use the extra cards for seeds or rates.",
                f"{src.LORA_REGRET}, Batch size effects",
            ),
        ),
        sources=(f"{src.LORA_REGRET}, Batch size effects", f"{src.TRL}, LoRA Without Regret"),
    ),
    ask(
        id="lora-a-or-b-zero", level="hard", kind="free",
        question="LoRA starts with B = 0 and A random. Swap the two: A = 0 and B random. The product is zero either "
        "way. What changes?",
        answer="The dynamics. With B = 0 the first gradient goes to B, with A = 0 to A. In the limit of large width "
        "the usual start allows larger learning rates before outputs become unstable, and learns features better, "
        "at the price of some internal instability; the swapped start is stable, but B is trained too little. On "
        "average B = 0 also scored better in experiments on RoBERTa and Llama. So the symmetric look deceives: A "
        "meets an input of width d, B an inner vector of width r.",
        listen_for=(
            "At the start both are the same function, but the first step differs: the gradient goes to the matrix at "
            "zero.", "With B = 0 a larger learning rate is stable.",
            "The reason: A meets an input of width d, B an inner vector of width r.",
            "B = 0 also does better on average in experiments.",
        ),
        wrong=("'symmetric, so equal'", "'A = 0 would never learn'", "'A = 0 allows the larger rates'"),
        follow_ups=(
            then(
                "Show that A = 0 does learn.",
                "The gradient of A is γ Bᵀ g xᵀ, which is not zero when B is random; B's gradient γ g (A x)ᵀ is "
                "zero for one step only.",
                src.ALGEBRA,
            ),
            then("And what about giving both a value?", to="lora-start-nonzero"),
            then("How large may the first step be?", to="lora-first-step"),
        ),
        sources=(f"{src.LORA_INIT}, abstract",),
    ),
    ask(
        id="lora-first-step", level="hard", kind="numeric", calculate=calc.first_step, model=MODEL,
        fits=separate_attention, given={"r": 16, "rate": 200},
        question="LoRA of rank {{r}} on a query map of {{model}} ({{q_out}} outputs), B = 0, Adam with a rate of "
        "{{rate}} millionths, no warm-up, every entry with a gradient. How large is the Frobenius norm of B after "
        "the first step, in millionths?",
        answer="{{value}}: Adam's first step moves every entry by the rate, whatever the gradient's size. That is "
        "why a warm-up matters more than the small start suggests.",
        listen_for=(
            "bias correction makes the first step the sign times the rate",
            "a norm grows with the root of the number of entries",
            "A does not move in this step",
        ),
        wrong=("depends on the gradient's size", "zero, since B is zero"),
        follow_ups=(
            then(
                "What does a warm-up change here?",
                "The first rate is a fraction of the peak, so B's first jump is that fraction; the direction is "
                "taken from a single batch and should not weigh much.",
                f"{src.ADAM}, algorithm 1",
            ),
            then(
                "And gradient clipping?",
                "Nothing: Adam's first step is the same for a gradient of any size, so scaling all of it changes no "
                "entry (ε aside).",
                f"{src.ADAM}, algorithm 1",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.ADAM}, algorithm 1", src.ALGEBRA),
    ),
)  # fmt: skip
