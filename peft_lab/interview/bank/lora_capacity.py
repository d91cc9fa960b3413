"""Questions on what LoRA can hold: rank against data, reinforcement learning, and the directions it adds."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import FORGETS_LESS, RANK_ONE, fact
from peft_lab.core.units import Source
from peft_lab.interview.calculations import lora_rates as calc
from peft_lab.interview.question import Question, gated, separate_attention, then

MODEL, LARGE = "llama-3.2-3b", "llama-3.1-8b"
RATES = f"{src.LORA_REGRET}, Optimal learning rate and rank"
LAYERS = f"{src.LORA_REGRET}, Layers Where LoRA Is Applied"
CAPACITY = f"{src.LORA_REGRET}, How much capacity is needed"
REWARDS = f"{src.LORA_REGRET}, Reinforcement learning"
ask = partial(Question, topic="lora", model=None)

QUESTIONS = (
    ask(
        id="lora-capacity-rank", level="hard", kind="numeric", calculate=calc.capacity_rank, model=MODEL, fits=gated,
        given={"corpus": 50_000_000, "token_bits": 1, "parameter_bits": 2},
        question="A data set has {{corpus}} tokens of answers. Reckon with {{token_bits}} bit to learn in a token "
        "and {{parameter_bits}} bits that a parameter can hold. Which rank must LoRA on every linear map of "
        "{{model}} have at least to hold it?",
        answer="{{value}}: one rank on every map is {{each}} parameters. A rule of thumb for where LoRA begins to "
        "fall behind, no law: text repeats itself, and much of it the model knows.",
        listen_for=(
            "information against capacity",
            "parameters per rank come from the shapes",
            "names it a rough bound",
        ),
        wrong=("'rank 8 is always enough'", "compares tokens with parameters without units"),
        follow_ups=(
            then(
                "What does running out of capacity look like?",
                "The loss follows that of full fine-tuning for a while and then bends away from it: learning gets "
                "slower, it does not stop at once. Higher ranks leave the common curve later.",
                f"{src.LORA_REGRET}, LoRA rank",
            ),
            then("And in reinforcement learning?", to="lora-reward-room"),
        ),
        sources=(CAPACITY, src.ALGEBRA),
    ),
    ask(
        id="lora-reward-room", level="medium", kind="numeric", calculate=calc.reward_room, model=MODEL, fits=gated,
        given={"prompts": 7_500, "answers": 32, "parameter_bits": 2},
        question="GRPO on {{prompts}} problems, each answered {{answers}} times, once through. If an episode says "
        "about one bit and a parameter holds {{parameter_bits}}, how many times over does LoRA of rank one on every "
        "linear map of {{model}} hold what the run can say?",
        answer="{{value}}, for {{episodes}} episodes. So even the smallest rank has room for what is told; whether it "
        "also trains well is another question.",
        listen_for=("an advantage says little per episode, however long the answer", "counts episodes, not tokens"),
        wrong=("counts the tokens of the answers", "'reasoning is hard, so the rank must be high'"),
        follow_ups=(
            then("Is rank 1 then always right for RL?", to="lora-rank-one"),
            then(
                "Which term would change if the reward were given at each step of the answer?",
                "The bits of an episode: a reward for each step says more than one for the whole answer, and the "
                "estimate grows by the number of steps.",
                REWARDS,
                src.ALGEBRA,
            ),
        ),
        sources=(REWARDS, CAPACITY),
    ),
    ask(
        id="lora-rank-one", level="medium", kind="free", origin=Source.COUNTED, given=calc.rank_one(LARGE),
        facts=(fact("lora", RANK_ONE, "", "sometimes", objective="rl"),),
        question="'LoRA of rank 1 matched full fine-tuning in RL.' Why is that plausible, and what would make you "
        "doubt it for your run?",
        answer="A policy gradient learns from an advantage for each episode, about one bit, while supervised "
        "training gets about a bit for every token. On all maps of {{large}} rank 1 is {{parameters}} parameters, more "
        "than a run can say. It was shown on mathematics with models that already solve part of the problems. Doubt it "
        "because others found otherwise: on reasoning models rank 1 was a severe bottleneck, as VeRA was, and DoRA, "
        "AdaLoRA and MiSS came out above LoRA. A very high rank is no way out: in a sweep under GRPO ranks of 128 "
        "and 256 collapsed at every batch size and 64 at large ones, while 8 went on learning. Doubt it most where the "
        "policy must learn new facts or a new format, where the signal is dense (distillation, per-step rewards), or "
        "where the run goes on for millions of episodes. So try two moderate ranks.",
        listen_for=(
            "information per episode against per token",
            "all maps, not rank 1 on q and v",
            "knows that others found rank 1 too little, and very high ranks unstable",
            "limits: dense signals, new knowledge",
        ),
        wrong=("'RL needs exploration, so the rank must be large'", "carries the claim over to supervised training"),
        follow_ups=(
            then("How far down has this been taken?", to="lora-tiny-reasoning"),
            then(
                "Which rate would you use?",
                "Again about ten times that of full fine-tuning: TRL's table has 1e-6 for GRPO on all weights and "
                "1e-5 with LoRA.",
                f"{src.TRL}, PEFT integration, recommended learning rates",
            ),
            then(
                "Does the base have to be in 16 bits for that?",
                "No. With the base in NVFP4, QeRL reports rewards that grow faster than with LoRA on 16 bits or QLoRA, "
                "full fine-tuning's scores on a 7B model, and faster rollouts. Its reason: rounding noise raises "
                "the policy's entropy, so it explores more.",
                f"{src.QERL}, abstract",
            ),
        ),
        sources=(
            REWARDS,
            f"{src.TRL}, LoRA Without Regret",
            f"{src.RLVR_METHODS}, abstract",
            f"{src.RANK_COLLAPSE}, abstract",
        ),
    ),
    ask(
        id="lora-intruders", level="hard", kind="free",
        facts=(fact("lora", FORGETS_LESS, "full"),),
        question="What are intruder dimensions, how would you find them in an adapter, and what do they do?",
        answer="Singular vectors with large singular values in the tuned W + ΔW that resemble none of the "
        "pretrained ones. Take the SVD before and after, and for each of the top vectors look for the largest "
        "cosine with any pretrained vector: an intruder has none near one. LoRA makes them, full fine-tuning does "
        "not, even at equal task scores. Forgetting was traced to them: scaling their singular values down after "
        "training recovered the pretraining loss at little cost to the task. They pile up when tasks are trained "
        "one after another. LoRA still tends to forget less than full fine-tuning: that is about how much, this "
        "about where.",
        listen_for=(
            "They are singular vectors with large singular values in the tuned matrix that resemble none of the "
            "pretrained.",
            "To find them take the SVD before and after, and look for vectors whose largest cosine is low.",
            "They go with forgetting: scaling them down afterwards recovers what was lost.",
            "LoRA makes them, full fine-tuning does not, even at equal task scores.",
            "They pile up when tasks are trained one after another.",
        ),
        wrong=(
            "'low rank cannot change the spectrum'", "looks at the singular values of BA alone",
            "'full fine-tuning makes them too'",
        ),
        follow_ups=(
            then(
                "What fights them before training?",
                "Higher ranks with the rank-stabilised scale were reported to stay closer to the spectrum of full "
                "fine-tuning; high rates and few directions make them more likely.",
                f"{src.INTRUDERS}, abstract of version 1",
            ),
            then(
                "And after training?",
                "PEFT's `reduce_intruder_dimension` subtracts part of each from ΔW (`mitigation_lambda`, 0.75 by "
                "default) into a new adapter, trading task accuracy for what was forgotten.",
                f"{src.PEFT}, reduce_intruder_dimension",
            ),
        ),
        sources=(f"{src.INTRUDERS}, abstract", f"{src.PEFT}, reduce_intruder_dimension"),
    ),
    ask(
        id="lora-intruder-remedy", level="medium", kind="choice", correct=2,
        options=(
            "Raise α so that the adapter dominates",
            "Train a second adapter on top of the merged model",
            "Scale the intruders' singular values down after training",
            "Transpose A and B",
        ),
        because=(
            "A larger scale makes the new directions stand out even more.",
            "Intruders accumulate when tasks are trained one after another.",
            "",
            "It is another map altogether: shapes of A and B belong to inputs and outputs.",
        ),
        question="A trained LoRA has intruder dimensions and the model has lost general ability. Which of these was "
        "shown to win it back with little loss on the task?",
        answer="Scaling down the singular values of the intruders after training: the pretraining loss recovered, "
        "the task's score barely moved.",
        listen_for=("an intervention, so evidence of cause", "a knob that trades the two"),
        wrong=("raises α",),
        follow_ups=(
            then(
                "How would you choose how far to scale?",
                "Sweep the factor, and plot the task's score against a loss on general text that was not trained "
                "on; take the knee.",
                f"{src.INTRUDERS}, abstract",
                src.ALGEBRA,
            ),
            then(
                "Why not just lower the scale of the whole adapter?",
                "That shrinks the useful directions as much as the harmful ones. The finding is that forgetting "
                "sits in few directions.",
                f"{src.INTRUDERS}, abstract",
            ),
        ),
        sources=(f"{src.INTRUDERS}, abstract",),
    ),
    ask(
        id="lora-intruder-cosine", level="hard", kind="numeric", calculate=calc.random_cosine, model=MODEL,
        fits=separate_attention,
        question="A new singular vector of {{model}}'s hidden size {{hidden}} is compared with one pretrained "
        "singular vector. Which absolute cosine would a random direction have on average?",
        answer="{{value}}. PEFT's search takes a vector for an intruder if no pretrained one reaches a cosine of a "
        "half, which is {{times}} times that: the threshold is generous towards being found, and the maximum over "
        "thousands of vectors lies well above one pair's mean.",
        listen_for=(
            "falls with the square root of the dimension",
            "the maximum over many vectors is larger",
            "a threshold needs a baseline",
        ),
        wrong=("0.5, since cosines lie between 0 and 1", "1/d"),
        follow_ups=(
            then(
                "Why look at the absolute value?",
                "The sign of a singular vector is arbitrary: u and −u describe the same direction with v and −v.",
                src.ALGEBRA,
            ),
            then(
                "What would you plot?",
                "The matrix of absolute cosines of new against old vectors: full fine-tuning shows a sharp "
                "diagonal, LoRA rows that are dark throughout.",
                src.INTRUDERS,
            ),
        ),
        sources=(f"{src.PEFT}, reduce_intruder_dimension", src.ALGEBRA),
    ),
)  # fmt: skip
