"""Questions on other starts of LoRA: OLoRA, EVA, CorDA, LoRA-GA, and rates of their own for A and B."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import lora_starts as calc
from peft_lab.interview.question import Question, gated, separate_attention, then

MODEL = "llama-3.2-3b"
STARTS = f"{src.PEFT}, LoRA, Initialization"
ask = partial(Question, topic="lora", model=None)

QUESTIONS = (
    ask(
        id="lora-start-data", level="basic", kind="choice", correct=2,
        options=("PiSSA", "OLoRA", "EVA", "LoRA's own start"),
        because=(
            "It takes the top singular vectors of W: the weights are enough.",
            "It takes a QR decomposition of W: the weights are enough.",
            "",
            "Random A and zero B need neither weights nor data.",
        ),
        question="Which of these starts of LoRA needs batches of training data before the first step?",
        answer="EVA: it takes the singular vectors of each layer's input activations, so batches have to run "
        "through the model first. CorDA (covariances of inputs) and LoRA-GA (gradients) need data as well.",
        listen_for=("sorts starts by what they look at: nothing, weights, inputs, gradients",),
        wrong=("PiSSA, because it takes long",),
        follow_ups=(
            then(
                "What does a start from data risk?",
                "It fits the batches it saw: they must be drawn like the training data, and with the label mask "
                "where only answers count.",
                f"{src.PEFT}, EvaConfig, use_label_mask",
            ),
            then(
                "Which of them change the base weights?",
                "PiSSA, OLoRA, CorDA and LoRA-GA take their product out of W, so that the model starts unchanged; EVA "
                "leaves W alone, as B starts at zero.",
                STARTS,
            ),
        ),
        sources=(STARTS, f"{src.LORA_GA}, abstract"),
    ),
    ask(
        id="lora-start-ga", level="medium", kind="free",
        question="What does LoRA-GA start A and B from, what is it meant to achieve in the first step, and what "
        "does it cost?",
        answer="From the gradient of the full weight matrix: it runs some batches, takes the SVD of each map's "
        "gradient and gives singular vectors to A and B, so that the first update of the product points where full "
        "fine-tuning's update would. Its authors report convergence as fast as full fine-tuning, two to four times "
        "faster than plain LoRA. It costs gradients of all adapted weights once before training (one map at a time "
        "to save memory), a product that is not zero at the start and so has to be taken out of W, and a dependence "
        "on the batches.",
        listen_for=(
            "first update of BA against first update of W",
            "gradients of frozen weights, once",
            "a start, not another method: shapes stay",
        ),
        wrong=("that it trains W for some steps", "that it only changes the learning rate"),
        follow_ups=(
            then(
                "Faster to what?",
                "In steps to the same loss. Whether the end is better depends on data and tuning, and the "
                "baseline's rate has to be tuned as well before one believes it.",
                f"{src.LORA_GA}, abstract",
                src.ALGEBRA,
            ),
            then(
                "How do its vectors reach A and B?",
                "PEFT's recommended `ArB2r` gives the first r to A and the next r to B, so that the two do not "
                "share directions.",
                f"{src.PEFT}, LoraGAConfig",
            ),
        ),
        sources=(f"{src.LORA_GA}, abstract", f"{src.PEFT}, LoraGAConfig"),
    ),
    ask(
        id="lora-start-olora", level="medium", kind="free",
        question="OLoRA and PiSSA both start from W. How do they differ, and what do they share that matters when "
        "the adapter is shipped?",
        answer="PiSSA takes the top singular triplets of W, OLoRA the first r columns and rows of its QR "
        "decomposition: an orthonormal B without an SVD, cheaper and not sorted by importance. Both subtract the "
        "scaled product from W, so the base in memory is no longer the published one, and the adapter alone does "
        "not fit the published base. Ship the conversion to a plain LoRA of twice the rank, or the residual base "
        "with it.",
        listen_for=("SVD against QR", "orthonormal columns", "mutated base, so conversion or residual"),
        wrong=("that OLoRA constrains A and B to stay orthogonal during training",),
        follow_ups=(
            then("How large is the converted adapter?", to="lora-start-converted"),
            then(
                "What if the base is quantised after the start?",
                "The residual is quantised instead of W. For PiSSA that was the point: the residual lacks the "
                "largest singular values and has a smaller quantisation error.",
                f"{src.PEFT}, LoRA, PiSSA",
            ),
        ),
        sources=(STARTS, f"{src.PEFT}, olora_init", f"{src.PISSA}, section 3"),
    ),
    ask(
        id="lora-start-corda", level="medium", kind="free",
        question="CorDA has two modes. What do they do with the covariance of a layer's inputs, and which would you "
        "take to keep what the model knows?",
        answer="It decomposes W weighted by the covariance of inputs that you collect, so that directions are "
        "sorted by how much they matter for those inputs. In the instruction-previewed mode the inputs come from "
        "the new task and the adapter starts from the components that matter most for it: faster fitting. In the "
        "knowledge-preserved mode the inputs are questions on what is to be kept, and the adapter starts from the "
        "components that matter least for them. Take the second if general knowledge must survive.",
        listen_for=(
            "whose inputs are collected in which mode",
            "most against least important components",
            "costs covariance matrices",
        ),
        wrong=("that a penalty is added to the loss",),
        follow_ups=(
            then("How large are those matrices?", to="lora-start-covariances"),
            then(
                "How would you prove that knowledge was kept?",
                "Measure a closed-book test and a loss on general text before and after, for this start and for "
                "plain LoRA at its own best rate.",
                src.ALGEBRA,
            ),
        ),
        sources=(STARTS, f"{src.PEFT}, CordaConfig"),
    ),
    ask(
        id="lora-start-cap", level="basic", kind="numeric", calculate=calc.highest_rank, given={"r": 16, "rho": 2},
        question="EVA moves ranks between layers by explained variance. With r = {{r}} and ρ = {{rho}}, which rank "
        "can a layer have at most?",
        answer="{{value}}. With ρ at one nothing moves.",
        listen_for=("ρ caps a layer; the sum over layers is what it was",),
        wrong=("r: it is fixed for all layers", "there is no limit"),
        follow_ups=(
            then(
                "What happens to the scale α/r of a layer whose rank changed?",
                "By default PEFT adjusts the scaling factors after the redistribution, so that gradients have the "
                "same scale at every rank.",
                f"{src.PEFT}, EvaConfig, adjust_scaling_factors",
            ),
            then("Then what is left for the others?", to="lora-start-rest"),
        ),
        sources=(f"{src.PEFT}, EvaConfig",),
    ),
    ask(
        id="lora-start-rest", level="hard", kind="numeric", calculate=calc.rank_of_the_rest,
        given={"r": 16, "rho": 2, "capped": 0.25},
        question="EVA with r = {{r}} and ρ = {{rho}} on maps of equal size: a share of {{capped}} of them goes to "
        "the highest rank. What is the mean rank of the others, if the sum of ranks stays?",
        answer="{{value}}. Where maps differ in size, equal sums of ranks are not equal numbers of parameters.",
        listen_for=("conserves the sum", "divides by the maps that are left"),
        wrong=("keeps the others at r",),
        follow_ups=(
            then(
                "Why would a server dislike such an adapter?",
                "It allocates one rank for all maps: the highest rank decides the slot, and the rest is padding.",
                src.VLLM_CODE,
            ),
            then("AdaLoRA moves ranks, too. When?", to="train-adalora"),
        ),
        sources=(f"{src.PEFT}, EvaConfig", src.ALGEBRA),
    ),
    ask(
        id="lora-start-converted", level="hard", kind="numeric", calculate=calc.converted, model=MODEL,
        fits=separate_attention, given={"r": 16},
        question="A PiSSA adapter of rank {{r}} on the query and value maps of {{model}} is converted so that it "
        "fits the published base. How many parameters has the plain LoRA adapter that comes out?",
        answer="{{value}}: the change is what was trained minus the start, a difference of two products, so the "
        "rank doubles.",
        listen_for=("ΔW = BA − B₀A₀", "stacks the two: columns of B, rows of A", "the start must have been kept"),
        wrong=("the same rank", "full rank, since W changed"),
        follow_ups=(
            then(
                "Could an SVD bring it back to the old rank?",
                "Only with a loss: the difference has rank up to twice r. Cutting its smallest singular values is "
                "an approximation that has to be tested.",
                src.ALGEBRA,
            ),
            then(
                "What do you need besides the trained adapter?",
                "The start: PEFT saves it before training and takes it as "
                "`path_initial_model_for_weight_conversion` when the trained one is saved.",
                f"{src.PEFT}, save_pretrained and subtract_mutated_init",
            ),
        ),
        sources=(f"{src.PEFT}, subtract_mutated_init", f"{src.PISSA}, section 3"),
    ),
    ask(
        id="lora-start-covariances", level="hard", kind="numeric", calculate=calc.covariances, model=MODEL,
        fits=gated,
        question="CorDA keeps one covariance matrix of inputs in float32 for each of the seven maps in {{model}}'s "
        "{{layers}} layers (q, k, v, gate and up read {{hidden}}, o reads {{o_in}}, down reads {{down_in}}). How "
        "many bytes is that?",
        answer="{{value}}, beside {{weights}} GB of weights in bfloat16: {{times}} times the model. PEFT's code "
        "warns of about twice the model.",
        listen_for=(
            "inputs squared, per map",
            "down has by far the largest",
            "q, k and v share their input, so much of it is the same matrix",
        ),
        wrong=("'some statistics, negligible'",),
        follow_ups=(
            then(
                "How would you shrink it?",
                "Share the matrix where maps read the same input, go layer by layer, or keep only the "
                "decomposition: PEFT can cache the SVD, which is much smaller.",
                f"{src.PEFT}, CordaConfig, cache_file",
            ),
            then(
                "Why not float16?",
                "Sums over many tokens lose small terms and may overflow; PEFT offers it and warns of numerical "
                "instability.",
                f"{src.PEFT}, CordaConfig, use_float16_for_covariance",
            ),
        ),
        sources=(f"{src.PEFT}, CordaConfig", src.ALGEBRA),
    ),
    ask(
        id="lora-start-nonzero", level="hard", kind="free",
        question="'LoRA has to start exactly at the pretrained model, so one factor must be zero.' Defend or attack.",
        answer="Attack, with care. A zero factor is a convenience: training starts at the base's loss. A study from "
        "the infinite-width side starts both factors at non-zero values and finds that it makes LoRA less sensitive "
        "to a rate that is too small, while the noise this adds to W usually did no harm. PiSSA, OLoRA and LoRA-GA "
        "start from a non-zero product, too, but take it out of W. What you give up is an exact base at step 0, "
        "which serves as a test of the wiring, and a reference model for free before any step.",
        listen_for=(
            "convenience against necessity",
            "noise small beside W",
            "subtracted from W or not",
            "what a zero start is good for",
        ),
        wrong=("'non-zero means random outputs'", "both factors zero as the safe choice"),
        follow_ups=(
            then(
                "When would you insist on the zero start?",
                "When step 0 has to equal the base: for checking the set-up, for DPO's margin of zero, and when "
                "adapters are added to a system that runs.",
                src.ALGEBRA,
                f"{src.DPO}, section 4",
            ),
            then("And with both at zero?", to="lora-both-zero"),
        ),
        sources=(f"{src.NON_ZERO}, abstract", f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="lora-plus-rate", level="medium", kind="numeric", calculate=calc.rate_of_b,
        given={"rate": 50, "ratio": 16},
        question="LoRA+ with a learning rate of {{rate}} millionths and `loraplus_lr_ratio={{ratio}}`. At which "
        "rate is B trained, in millionths?",
        answer="{{value}}; A keeps the rate given. PEFT advises to set that a little lower than for plain LoRA.",
        listen_for=("B takes the larger one", "ratio and rate are tuned together"),
        wrong=("A takes the larger one", "both are scaled"),
        follow_ups=(
            then(
                "Why should B move faster than A?",
                "B starts at zero and maps from r numbers to d; A reads d inputs. In wide models one rate for both "
                "lets B learn too slowly or A become unstable.",
                f"{src.PEFT}, create_loraplus_optimizer",
                f"{src.LORA_INIT}, abstract",
            ),
            then(
                "What do you check before you believe a gain from it?",
                "That plain LoRA was given its own best rate: a ratio above one raises the rate of half the "
                "parameters.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, create_loraplus_optimizer",),
    ),
)  # fmt: skip
