"""Questions on adapters far smaller than LoRA's: VeRA, LoRA-XS, TinyLoRA."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import lora_small as calc
from peft_lab.interview.question import Question, any_model, gated, separate_attention, then

MODEL = "llama-3.2-3b"
VERA = "Kopiczko et al. 2023, VeRA, arXiv:2310.11454 (as PEFT's VeraConfig cites it)"
ask = partial(Question, topic="lora", model=MODEL, fits=separate_attention)

QUESTIONS = (
    ask(
        id="lora-vera-count", level="medium", kind="numeric", calculate=calc.vera, given={"r": 256},
        question="VeRA of rank {{r}} on the query and value maps of {{model}} ({{layers}} layers, outputs {{q_out}} "
        "and {{v_out}}). How many parameters are trained?",
        answer="{{value}}: a vector of length r between the frozen A and B and one as long as the outputs behind B. "
        "LoRA of rank sixteen on the same maps trains {{lora}} times as many.",
        listen_for=(
            "A and B are random, frozen and shared by all layers",
            "two vectors per map",
            "the rank is cheap here, so it is large",
        ),
        wrong=("counts A and B", "shares the vectors, too"),
        follow_ups=(
            then("How large is its file?", to="lora-vera-file"),
            then(
                "What does doubling the rank cost?",
                "Few parameters (one number more for each rank and map), but the two products with A and B double "
                "in time, and both matrices in memory.",
                f"{src.PEFT}, VeraConfig",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, VeraConfig", VERA),
    ),
    ask(
        id="lora-vera-file", level="hard", kind="numeric", calculate=calc.vera_file, given={"r": 256},
        question="That VeRA adapter (rank {{r}}, query and value maps of {{model}}) is saved by PEFT at its "
        "defaults, in float32. How many bytes of numbers is that?",
        answer="{{value}}: the shared projections are saved as well and are {{part}} of it. Without them "
        "(`save_projection=False`) it is {{without}} MB, and they are drawn again from the seed.",
        listen_for=(
            "trained is not stored",
            "one A as wide as the widest input, one B as high as the widest output",
            "a seed gives the same numbers only with the same generator",
        ),
        wrong=("the trained vectors only",),
        follow_ups=(
            then(
                "When may you leave the projections out?",
                "When whoever loads it has the same library and kind of device: PEFT warns that only saving them "
                "guarantees the checkpoint on all systems.",
                f"{src.PEFT}, VeraConfig, save_projection",
            ),
            then(
                "How does that change for a thousand adapters?",
                "All of one seed and rank share the projections, so a server could store them once and a thousand "
                "small files of vectors.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, VeraConfig, save_projection", src.ALGEBRA),
    ),
    ask(
        id="lora-vera-memory", level="hard", kind="numeric", calculate=calc.vera_memory,
        given={"r": 16, "vera_rank": 256},
        question="To save training memory someone changes from LoRA of rank {{r}} to VeRA of rank {{vera_rank}}, "
        "both on the query and value maps of {{model}}. Counting what is trained, its gradients and Adam's moments "
        "in float32: which percentage of the bfloat16 base's bytes is saved?",
        answer="{{value}}. The base and the activations stay. VeRA saves storage, not training memory.",
        listen_for=(
            "the adapter was small already",
            "VeRA's frozen A and B even take memory",
            "picks methods by the bottleneck",
        ),
        wrong=("the ratio of trained parameters",),
        follow_ups=(
            then(
                "What would save memory instead?",
                "A base in 4 bits, gradient checkpointing, shorter or packed sequences, and a loss that is computed "
                "in chunks.",
                f"{src.QLORA}, section 3",
                f"{src.CHECKPOINTING}, section 4",
            ),
            then("So what is VeRA for?", to="lora-vera-why"),
        ),
        sources=(f"{src.PEFT}, VeraConfig", f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="lora-vera-why", level="medium", kind="free", model=None, fits=any_model,
        question="VeRA freezes random A and B and shares them between layers. How can that learn anything, and when "
        "would you take it?",
        answer="A random matrix of high rank offers many directions; scaling its rows and the outputs picks and "
        "weighs some of them, per layer. Nothing has to be stored for the directions but a seed. Take it when many "
        "adapters are stored or sent (one per user), not for training memory or speed: the two products are as "
        "large as LoRA's of that rank, and the rank is much higher. It merges into W like LoRA.",
        listen_for=(
            "Random matrices offer many directions; small trained vectors pick and weigh some of them, per layer.",
            "Take it when many adapters have to be stored or sent.",
            "It saves no training time or memory to speak of: the products are as large as LoRA's at that rank.",
            "It can be merged into W like LoRA.",
        ),
        wrong=("'fewer parameters, so faster'", "'the vectors are shared across the layers'"),
        follow_ups=(
            then(
                "What limits it in principle?",
                "All layers of one width share the same directions; it can weigh them but not turn them. With too "
                "small a rank the needed direction may be missing.",
                src.ALGEBRA,
            ),
            then(
                "Why is the start of the inner vector small?",
                "`d_initial` is 0.1 by default; small values are recommended, and the outer vector starts so that "
                "the change is zero.",
                f"{src.PEFT}, VeraConfig, d_initial",
            ),
        ),
        sources=(f"{src.PEFT}, VeraConfig", VERA),
    ),
    ask(
        id="lora-xs-count", level="basic", kind="numeric", calculate=calc.xs, given={"r": 64},
        question="LoRA-XS puts a trained r × r matrix between frozen factors from the SVD of W. How many parameters "
        "does it train at rank {{r}} on the query and value maps of {{model}} ({{layers}} layers)?",
        answer="{{value}}, {{share}} of all: the widths of the model do not enter.",
        listen_for=("r² per map", "independent of the model's width"),
        wrong=("r times the widths", "only the singular values: r per map"),
        follow_ups=(
            then("How does that compare with LoRA of the same rank?", to="lora-xs-times"),
            then(
                "How small can it get?",
                "At rank one it is a single number for each map. TinyLoRA goes below by sharing numbers between "
                "maps.",
                f"{src.LORA_XS}, abstract",
                f"{src.PEFT}, TinyLoraConfig",
            ),
        ),
        sources=(f"{src.LORA_XS}, abstract",),
    ),
    ask(
        id="lora-xs-times", level="medium", kind="numeric", calculate=calc.xs_times, given={"r": 64},
        question="On a query map of {{model}} ({{q_in}} inputs, {{q_out}} outputs): how many times fewer parameters "
        "does LoRA-XS train than LoRA at the same rank {{r}}?",
        answer="{{value}}. The ratio falls with the rank, but not to one: at the map's smaller side, {{full}}, it is "
        "still {{least}}, since LoRA-XS then trains as many numbers as that side's square.",
        listen_for=("(d_in + d_out) / r", "larger models gain more at the same rank"),
        wrong=("r times fewer",),
        follow_ups=(
            then(
                "Is the file smaller by the same factor?",
                "Yes if the frozen factors are computed again from W when it is loaded, which takes an SVD of every "
                "map; no if they are stored.",
                f"{src.LORA_XS}, abstract",
                src.ALGEBRA,
            ),
            then(
                "And the training memory?",
                "The factors are in memory as LoRA's are, just frozen: gradients and moments are saved, which were "
                "small beside the base.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.LORA_XS}, abstract", f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="lora-tiny-bytes", level="basic", kind="numeric", calculate=calc.tiny_bytes, given={"count": 13},
        model=None, fits=any_model,
        question="'Learning to Reason in 13 Parameters' (TinyLoRA): how many bytes of bfloat16 is an adapter of "
        "{{count}} numbers?",
        answer="{{value}}. Beside them a seed and a config that say how to rebuild the frozen projections: the "
        "numbers are not the whole message.",
        listen_for=("two bytes each", "what else the receiver must know"),
        wrong=("52 bytes",),
        follow_ups=(
            then(
                "What does TinyLoRA train?",
                "A vector v of length u: the change of W is U√Σ(Σᵢ vᵢPᵢ)√ΣVᵀ with a truncated SVD of W and fixed "
                "random Pᵢ, and maps may share the same v.",
                f"{src.PEFT}, TinyLoraConfig",
            ),
            then("What do you make of the claim?", to="lora-tiny-reasoning"),
        ),
        sources=(f"{src.PEFT}, TinyLoraConfig",),
    ),
    ask(
        id="lora-tiny-untied", level="medium", kind="numeric", calculate=calc.tiny_untied, fits=gated,
        given={"u": 64},
        question="TinyLoRA with vectors of {{u}} numbers on the seven maps of each of {{model}}'s {{layers}} "
        "layers, `weight_tying=0`. How many parameters?",
        answer="{{value}}. Rank-one LoRA on the same maps trains {{lora}}.",
        listen_for=("one vector per map without tying", "with full tying it would be one vector for all"),
        wrong=("u² per map",),
        follow_ups=(
            then(
                "What happens at `weight_tying=1`?",
                "All maps share one vector: u parameters for the whole model, while the frozen projections still "
                "differ by map.",
                f"{src.PEFT}, TinyLoraConfig, weight_tying",
            ),
            then(
                "What is not small about it?",
                "The frozen factors of rank r and the u random r × r matrices of every map are in memory, and the "
                "SVD of every map has to be computed at the start.",
                f"{src.PEFT}, TinyLoraConfig",
            ),
        ),
        sources=(f"{src.PEFT}, TinyLoraConfig",),
    ),
    ask(
        id="lora-tiny-reasoning", level="hard", kind="free", model=None, fits=any_model,
        question="A paper trains a 7B model to solve grade-school mathematics with 13 trained parameters. What does "
        "that show, and what does it not?",
        answer="It shows that reinforcement learning on a task that the model nearly masters needs very little "
        "change: reported are 91% on GSM8K with Qwen2.5, a family that is strong in mathematics to begin with. So "
        "the numbers mostly steer what is there. It does not show that new knowledge, a new format or supervised "
        "training on long answers fits into a few numbers (supervised training needed updates a hundred to a "
        "thousand times as large there), nor that every base model can do it. Ask for the untuned score, a prompt as "
        "the baseline, other base models and other tasks.",
        listen_for=(
            "eliciting against teaching",
            "baseline: the base model and a better prompt",
            "RL's signal is small",
            "asks for other tasks and models",
        ),
        wrong=("'so LoRA ranks are all too large'", "'13 numbers cannot do anything, it must be a bug'"),
        follow_ups=(
            then(
                "Which experiment separates eliciting from teaching?",
                "Train facts that cannot be in the base model, by the same method: if it fails there at sizes that "
                "suffice for GSM8K, the success was eliciting.",
                src.ALGEBRA,
            ),
            then("Why may RL need less than supervised training?", to="lora-rank-one"),
        ),
        sources=(
            f"{src.TINYLORA}, abstract",
            f"{src.PEFT}, TinyLoraConfig",
        ),
    ),
)  # fmt: skip
