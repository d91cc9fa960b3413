"""Questions on preferences and rewards with adapters: DPO, GRPO, and the reference model."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import RATE, fact
from peft_lab.interview.calculations import preference as calc
from peft_lab.interview.question import Question, gated, then

WITH_PEFT = f"{src.TRL}, PEFT integration"
GRPO_CONFIG = f"{src.TRL}, GRPOConfig"
ask = partial(Question, topic="preference", model=None)

QUESTIONS = (
    ask(
        id="preference-reference", level="basic", kind="choice", correct=1,
        options=(
            "A second copy that is loaded from disk",
            "The same model with its adapters switched off",
            "The adapter of the previous step",
            "There is none, so the loss has no reference term",
        ),
        because=(
            "Nobody loads one: it would double the weights for nothing.",
            "",
            "The reference is fixed; a moving one would be another algorithm.",
            "DPO's loss needs the reference's log-probabilities of both answers.",
        ),
        question="You train DPO with LoRA in TRL and pass no reference model. Which model gives the reference "
        "log-probabilities?",
        answer="The same model with its adapters switched off: the base is frozen, so it is the reference, and no "
        "second copy is needed.",
        listen_for=("disable the adapter for one forward pass", "holds because the base never changes"),
        wrong=("a deep copy",),
        follow_ups=(
            then("How many bytes does that save?", to="preference-reference-bytes"),
            then("When is that reference the wrong one?", to="preference-after-sft"),
        ),
        sources=(f"{WITH_PEFT}, DPO", f"{src.PEFT}, disable_adapter"),
    ),
    ask(
        id="preference-reference-bytes", level="basic", kind="numeric", calculate=calc.reference,
        model="llama-3.1-8b", fits=gated,
        question="Full DPO of {{model}} ({{total}} parameters) holds a frozen reference in bfloat16. How many bytes "
        "does that copy take, which LoRA does without?",
        answer="{{value}}. The adapter that makes it unnecessary has {{adapter}} MB at rank sixteen on every map.",
        listen_for=("frozen: weights only", "or precompute the log-probabilities once"),
        wrong=("counts optimizer states for the reference",),
        follow_ups=(
            then(
                "How does full fine-tuning avoid the copy?",
                "It computes the reference's log-probabilities of the data set once before training and stores two "
                "numbers for each pair.",
                f"{src.TRL}, DPO, precompute_ref_log_probs",
            ),
            then(
                "Does LoRA save the reference's time, too?",
                "No: a second forward pass, with the adapters off, is still needed for each batch, unless it was "
                "computed before.",
                f"{WITH_PEFT}, DPO",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.DPO}, section 4", f"{WITH_PEFT}, DPO"),
    ),
    ask(
        id="preference-after-sft", level="hard", kind="free",
        question="You tuned a base with LoRA on instructions, kept the adapter unmerged, and now run DPO on it with "
        "the adapters-off reference. What is wrong, and what are your options?",
        answer="The reference should be the model that DPO starts from: base plus instruction adapter. With the "
        "adapters off it is the raw base, so from the first step the policy differs from its reference: the loss "
        "does not start at log 2, and the pull goes back towards a model that cannot follow instructions. Options: "
        "merge the instruction adapter into the base (in 16 bits) and train a new one; keep a frozen copy of the "
        "adapter beside the trained one and use it as the reference; or precompute log-probabilities before "
        "training. Check that the first loss is log 2.",
        listen_for=(
            "The reference should be the model that DPO starts from: base plus instruction adapter.",
            "With the adapters off the reference is the raw base.",
            "So the loss does not start at log 2, and the pull goes back to a model without instructions.",
            "Options: merge the instruction adapter and train a new one, keep a frozen copy as the reference, or "
            "precompute the log-probabilities.",
        ),
        wrong=(
            "'adapters off is always the reference'", "merges into a 4-bit base without thought",
            "'with the adapters off it is the instruction model'",
        ),
        follow_ups=(
            then(
                "What does merging into 4 bits do here?",
                "Rounding changes the start, for policy and reference alike: they still agree, but both are a "
                "slightly different model from the one that was tuned.",
                src.ALGEBRA,
                f"{src.PEFT}, tuners/lora, bnb layers",
            ),
            then("What should the first loss be?", to="preference-dpo-start"),
        ),
        sources=(f"{src.DPO}, section 4", f"{WITH_PEFT}, DPO", f"{src.TRL}, DPOConfig, ref_adapter_name"),
    ),
    ask(
        id="preference-dpo-start", level="basic", kind="numeric", calculate=calc.dpo_start, given={"strength": 0.1},
        question="DPO with β = {{strength}} and a fresh LoRA adapter (B = 0). What is the loss at the very first "
        "step, on any pair?",
        answer="{{value}}, the logarithm of two: the policy is the reference, so all log ratios vanish whatever β "
        "is. If you see another number, the reference is not the start.",
        listen_for=("both ratios are zero", "independent of β and of the data", "a free test of the set-up"),
        wrong=("zero, since nothing differs",),
        follow_ups=(
            then(
                "What else can make it differ?",
                "Dropout in one of the two passes, another dtype or another chat template for the reference, or "
                "sums over other tokens (prompt included).",
                f"{src.TRL}, GRPOConfig, disable_dropout",
                src.ALGEBRA,
            ),
            then(
                "And with a PiSSA start?",
                "Then base and product change together: with the adapters off the model is the residual, not the "
                "base. The adapters-off reference is wrong.",
                f"{src.PISSA}, section 3",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.DPO}, section 4",),
    ),
    ask(
        id="preference-dpo-loss", level="medium", kind="numeric", calculate=calc.dpo_loss,
        given={"strength": 0.1, "chosen": 2.0, "rejected": -1.0},
        question="After some steps the policy's log-probability of the chosen answer is {{chosen}} above the "
        "reference's, that of the rejected one {{rejected}} (so below). β = {{strength}}. What is DPO's loss on "
        "this pair?",
        answer="{{value}}, down from {{start}}. Only the difference of the two ratios counts: both may fall as long "
        "as the rejected one falls faster.",
        listen_for=(
            "difference of log ratios, times β, through a sigmoid",
            "chosen likelihood may fall while the loss improves",
        ),
        wrong=("adds the two", "leaves out β"),
        follow_ups=(
            then(
                "Why do people watch the chosen log-probability as well?",
                "Because the loss can fall by making both answers less likely; then the model drifts to something "
                "that is in neither.",
                f"{src.DPO}, section 4",
                src.ALGEBRA,
            ),
            then(
                "What does a larger β do?",
                "It asks for a smaller departure: the same margin of reward is reached with smaller log ratios, so "
                "the policy stays nearer to the reference.",
                f"{src.DPO}, section 4",
            ),
        ),
        sources=(f"{src.DPO}, section 4",),
    ),
    ask(
        id="preference-rate", level="medium", kind="choice", correct=1,
        facts=(fact(("lora", "qlora"), RATE, 5e-6, live="no", kind="causal-lm", objective="preference"),),
        options=("5e-8", "5e-6", "2e-4", "1e-3"),
        because=(
            "That is below even full fine-tuning's rate for DPO.",
            "",
            "That is LoRA's rate for instructions: for DPO it drives the policy away from its reference.",
            "That suits small vectors and prompts, not DPO.",
        ),
        question="Full DPO of a 7B model uses a learning rate of 5e-7. Which would you try first with LoRA?",
        answer="5e-6: the ratio of ten between LoRA and full fine-tuning holds here, too; TRL's table and the "
        "Alignment Handbook's recipes have these two numbers.",
        listen_for=("ten times the full rate of the same objective", "not the rate of the instruction stage"),
        wrong=("the rate of the instruction stage",),
        follow_ups=(
            then(
                "Why are DPO's rates so much lower than those for instructions?",
                "The loss compares with the start and is won by small changes of log ratios; large steps move far "
                "from the reference, where the pairs say nothing.",
                f"{src.DPO}, section 4",
                f"{src.HANDBOOK}",
            ),
            then(
                "And for GRPO?",
                "TRL's table: 1e-6 for all weights and 1e-5 with LoRA.",
                f"{WITH_PEFT}, recommended learning rates",
            ),
        ),
        sources=(
            f"{WITH_PEFT}, recommended learning rates",
            f"{src.HANDBOOK}, dpo/config_full.yaml and config_qlora.yaml",
        ),
    ),
    ask(
        id="preference-advantage", level="medium", kind="numeric", calculate=calc.advantage,
        given={"rewards": (1, 0, 0, 1, 0, 0, 0, 0)},
        question="GRPO, one prompt, rewards of the group: {{rewards}}. Which advantage does a right answer get "
        "(mean subtracted, divided by the standard deviation of the group)?",
        answer="{{value}}; a wrong one gets {{wrong}}. The rarer success is, the larger its advantage. With the spread "
        "of a sample, which divides by one less than the group's size as TRL's code does, it is {{sample}}.",
        listen_for=(
            "relative to the group, no value network",
            "sum of advantages is zero",
            "all tokens of an answer share its advantage",
        ),
        wrong=("the reward itself",),
        follow_ups=(
            then(
                "Why do some leave the division out?",
                "It gives hard and easy prompts, whose spread is small, larger weight; Dr. GRPO recommends not to "
                "scale, as TRL's documentation notes.",
                f"{GRPO_CONFIG}, scale_rewards",
            ),
            then("And if all eight are right?", to="preference-silent-groups"),
        ),
        sources=(f"{src.GRPO}, section 4.1", f"{GRPO_CONFIG}, scale_rewards"),
    ),
    ask(
        id="preference-silent-groups", level="medium", kind="numeric", calculate=calc.silent_groups,
        given={"size": 8, "rate": 0.9},
        question="A model solves a problem with probability {{rate}}. GRPO samples {{size}} answers to it. How "
        "likely is it that the group teaches nothing?",
        answer="{{value}}: all right or all wrong means equal rewards and advantages of zero. Easy and impossible "
        "prompts cost generation and give no gradient, so filter by success rate.",
        listen_for=("both ends count", "larger groups help at the ends", "curriculum or filtering"),
        wrong=("ten percent: one wrong answer is enough to learn",),
        follow_ups=(
            then(
                "At which success rate is a group most informative?",
                "Around a half: the variance p(1 − p) of the reward is largest there.",
                src.ALGEBRA,
            ),
            then(
                "What does a larger group cost?",
                "Generation grows with it, and generation is most of the time of a step; the reward is computed as "
                "often.",
                f"{GRPO_CONFIG}, num_generations",
            ),
        ),
        sources=(f"{src.GRPO}, section 4.1", src.ALGEBRA),
    ),
    ask(
        id="preference-batch", level="basic", kind="numeric", calculate=calc.prompts,
        given={"devices": 8, "each": 4, "accumulate": 4, "group": 8},
        question="GRPO in TRL: {{devices}} GPUs, `per_device_train_batch_size={{each}}`, {{accumulate}} "
        "accumulation steps, `num_generations={{group}}`. How many different prompts are in one update?",
        answer="{{value}}: the batch counts completions, {{completions}} of them.",
        listen_for=("batch in completions", "has to be divisible by the group size"),
        wrong=("the batch size, as in supervised training",),
        follow_ups=(
            then(
                "Why does it matter for LoRA?",
                "LoRA tolerates large batches less well; counted in prompts the batch is smaller than it looks, "
                "counted in episodes larger.",
                f"{src.LORA_REGRET}, Batch size effects",
                src.ALGEBRA,
            ),
            then(
                "What if it is not divisible?",
                "TRL refuses: the effective batch must be divisible by the number of generations.",
                f"{GRPO_CONFIG}, num_generations",
            ),
        ),
        sources=(f"{GRPO_CONFIG}, num_generations",),
    ),
    ask(
        id="preference-kl", level="hard", kind="free",
        question="TRL's GRPO has β = 0 by default. What is gone with it, what do you save with LoRA and without, "
        "and what keeps the policy in place?",
        answer="The KL term to a reference is gone, and with it the reference's forward pass; without LoRA also a "
        "whole model in memory, with LoRA nothing but time, since the reference is the model with its adapters off. "
        "What remains is the clipping of the ratio to the policy that sampled, the small rate, few steps, and a "
        "reward that is hard to fool. With an exploitable reward that is not enough: the policy may drift to what "
        "scores. Then set β (DeepSeek-R1 used 0.001, says the documentation), watch the KL anyway, and keep "
        "held-out tasks.",
        listen_for=(
            "reference not loaded at β = 0",
            "LoRA: memory was free, time was not",
            "clipping is to the sampling policy, not to the start",
            "reward hacking",
        ),
        wrong=("'without KL it cannot be trained'", "'LoRA cannot drift'"),
        follow_ups=(
            then(
                "Does LoRA itself hold the policy near the base?",
                "A little: a low rank limits the directions, not the distance. Forgetting is less on average, and "
                "rewards can be hacked by rank one. Training on rewards itself forgot less than supervised training, "
                "in a comparison where orthogonal fine-tuning kept most for what it learnt.",
                f"{src.LEARNS_LESS}, section 4.2",
                f"{src.LORA_REGRET}, Reinforcement learning",
                f"{src.PEFT_ARENA}, abstract and project page",
            ),
            then(
                "How would you watch the drift without a KL term?",
                "Compute the KL on a fixed set of prompts from time to time, adapters on against off, and log it: "
                "it costs two forward passes.",
                f"{src.PEFT}, disable_adapter",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{GRPO_CONFIG}, beta", f"{src.GRPO}, section 4.1"),
    ),
)  # fmt: skip
