"""Doubts about answers on LoRA as it is used since 2024."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.interview.question import Challenge, give_way, hold

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "lora-rank-one",
        "Rank 1 on all maps may be enough for reinforcement learning.",
        "One direction per matrix is nothing. It needs as much rank as supervised training.",
        "What can be learnt is bounded by the signal: about one bit an episode from an advantage, against about one a "
        "token, and rank 1 on all maps of {{large}} has {{parameters}} parameters. 'May': others found rank 1 too "
        "little, though not for want of a large rank, as very high ranks collapsed.",
        f"{src.LORA_REGRET}, Reinforcement learning", f"{src.RLVR_METHODS}, abstract", f"{src.RANK_COLLAPSE}, abstract",
    ),
    give_way(
        "lora-intruders",
        "LoRA forgets less than full fine-tuning, so it makes no intruder dimensions.",
        "Is how much it forgets the same as where the change lies?",
        "No. LoRA makes singular vectors near no pretrained one, full fine-tuning does not, even at equal scores; "
        "forgetting was traced to them. It may forget less in sum all the same.",
        f"{src.INTRUDERS}, abstract",
    ),
    hold(
        "lora-rate-rank",
        "With α/r I would not tune the rate again for a higher rank.",
        "More parameters, larger update: the rate has to fall.",
        "Each of the r pairs adds a share of 1/r, so the first update moves the outputs about as far at any rank. "
        "That holds for α/r; with rsLoRA's α/√r the update does grow.",
        f"{src.LORA_REGRET}, Optimal learning rate and rank", f"{src.RSLORA}, section 4",
    ),
    give_way(
        "lora-mlp-or-attention",
        "Query and value are enough: the LoRA paper showed it.",
        "Under which budget, and on which model?",
        "Under a fixed budget of parameters, among attention's maps, on GPT-3. Later studies found all linear maps "
        "needed, and the feed-forward part alone better than attention alone.",
        f"{src.LORA}, section 7.1", f"{src.QLORA}, section 4", f"{src.LORA_REGRET}, Layers Where LoRA Is Applied",
    ),
    hold(
        "lora-large-batches",
        "I would not raise the rank against that: it is not capacity.",
        "A larger batch carries more information, so it needs more rank.",
        "It was tried: the gap to full fine-tuning grew with the batch, whatever the rank. The product of two "
        "matrices has other dynamics. Keep the batch at about 32.",
        f"{src.LORA_REGRET}, Batch size effects",
    ),
    hold(
        "lora-experts-parameters",
        "I would count the trainable parameters against the formula before training.",
        "PEFT raises an error when a target does not exist.",
        "Only when none exists. Here the stacked experts are one parameter, no modules to wrap, and other maps that "
        "carry such a name, of a shared expert say, make the call succeed. `target_parameters` names the stack.",
        f"{src.PEFT}, LoRA, Targeting nn.Parameter directly",
    ),
    give_way(
        "lora-experts-starved",
        "Experts whose adapter stayed at zero show a bug in the routing of gradients.",
        "How many tokens did they get?",
        "Perhaps none: for a narrow task the router sends most tokens to a few experts, and an expert without tokens "
        "has no gradient. Count tokens by expert before looking for a bug.",
        src.ALGEBRA, f"{src.DR_LORA}, abstract",
    ),
    give_way(
        "lora-head-tied",
        "Head and embedding are tied, so both change when I put the head into `modules_to_save`.",
        "What does PEFT train there: the module, or a copy?",
        "A copy. The output layer moves and the embedding stays, and the model has grown by a matrix. "
        "`ensure_weight_tying` ties the copies again.",
        f"{src.PEFT}, ensure_weight_tying", f"{src.PEFT}, modules_to_save",
    ),
    hold(
        "lora-miss-how",
        "MiSS can be turned into LoRA's factors exactly, without an SVD.",
        "It trains one matrix. A single matrix has full rank.",
        "The trained matrix has r rows, and the summing of the input into r numbers is a fixed matrix of zeros and "
        "ones: a product of rank r at most. That holds for the modes that do not depend on W.",
        f"{src.PEFT}, MissConfig and LoRA conversion",
    ),
    hold(
        "choose-oft-why",
        "An orthogonal factor keeps the lengths of the weights and the angles between them.",
        "A rotation moves every weight, so it keeps less than a small addition.",
        "It moves them together: (WR)(WR)ᵀ = WWᵀ. An addition, however small, changes lengths and angles.",
        src.ALGEBRA, f"{src.PEFT}, OFTConfig",
    ),
    give_way(
        "merge-which-way",
        "Linear merging of A and B is the weighted sum of the two changes.",
        "Multiply it out.",
        "(w₁B₁ + w₂B₂)(w₁A₁ + w₂A₂) has cross terms. Concatenation adds the changes exactly; the forms that end in "
        "`_svd` work on whole changes.",
        src.ALGEBRA, f"{src.PEFT}, add_weighted_adapter",
    ),
    hold(
        "merge-route",
        "Where tasks conflict and requests tell their task, I would route and not merge.",
        "A router costs memory. Merge all ten into one, with TIES.",
        "Merging mixes changes that contradict each other; by request one adapter is exact and costs one adapter. "
        "Only routing by token computes several at once.",
        f"{src.PEFT}, Model merging", f"{src.PEFT}, ArrowConfig",
    ),
    give_way(
        "preference-after-sft",
        "With adapters switched off I have the reference that DPO needs.",
        "From which model does your policy start?",
        "From the base with the instruction adapter. Without adapters it is the raw base: the loss does not start at "
        "log 2, and the policy is pulled back to a model that follows no instructions.",
        f"{src.DPO}, section 4", "TRL documentation, DPOConfig, ref_adapter_name",
    ),
    give_way(
        "preference-kl",
        "Without the KL term nothing holds the policy back.",
        "Nothing at all?",
        "The ratio to the policy that sampled is clipped, the rate is small and the steps are few. That is enough for "
        "rewards that are hard to fool; for others set β and watch the KL.",
        "TRL documentation, GRPOConfig, beta", f"{src.GRPO}, section 4.1",
    ),
)  # fmt: skip
