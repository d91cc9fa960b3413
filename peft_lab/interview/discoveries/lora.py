"""What was found about LoRA since its paper: its rate, its places, its start, and how little of it is enough."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.facts import FORGETS_LESS, RANK_ONE, TARGETS, fact
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, printed, right, trained

ATTENTION = "lora--llama-3.2-3B-rank32"
FEED_FORWARD = "lora--llama-3.2-3B-rank10-target-mlp"
FULL_RANK = (ATTENTION, "randlora--llama-3.2-3B-default", "miss--llama-3.2-3B-default")

SINCE = (
    Discovery(
        id="lora-since-rate",
        title="A higher rate than full fine-tuning, the same at every rank",
        found="LoRA's best learning rate was about {times} times that of full fine-tuning, and nearly the same at "
        "every rank.",
        follows="Tune the rate once, at a small rank, and keep it and α when you raise the rank.",
        source=src.LORA_REGRET,
        place="Optimal learning rates for LoRA vs. FullFT",
        version="2025-09-29",
        figures={"times": printed("lora-rate-times")},
        opens=lab("compare", lines="rank"),
    ),
    Discovery(
        id="lora-since-layers",
        title="The feed-forward maps before attention",
        found="Attention alone learnt less than the feed-forward maps alone, even at a rank that makes the number of "
        "parameters equal. In the published comparison attention gives {attention} right answers with {many} trained "
        "parameters, the feed-forward maps {feed_forward} with {alike}.",
        follows="Adapt every linear map, and lower the rank if that costs too much.",
        source=src.LORA_REGRET,
        place="Layers Where LoRA Is Applied",
        version="2025-09-29",
        figures={
            "attention": right(ATTENTION),
            "many": trained(ATTENTION),
            "feed_forward": right(FEED_FORWARD),
            "alike": trained(FEED_FORWARD),
        },
        experiment="lora-layers",
        expects=True,
        facts=(fact("lora", TARGETS, "every linear map"),),
    ),
    Discovery(
        id="lora-since-batch",
        title="Large batches cost LoRA more",
        found="In some settings LoRA loses more than full fine-tuning when the batch grows. A higher rank does not "
        "help: it comes from training a product of two matrices.",
        follows="When more devices come, do not simply multiply the batch.",
        source=src.LORA_PRIMER,
        place="LoRA primer",
        version="latest",
        opens=lab("compare", lines="batch"),
    ),
    Discovery(
        id="lora-since-variants",
        title="Tuned as well, plain LoRA keeps up",
        found="Nine variants of LoRA and LoRA itself were each given their own best learning rate: their best scores "
        "were then within {apart}% of each other.",
        follows="Before you believe that a variant is better, ask which rate plain LoRA was given.",
        source=src.VANILLA,
        place="abstract",
        version="v2",
        figures={"apart": printed("variants-apart")},
        opens=lab("fact_check", claim="dora-better"),
    ),
    Discovery(
        id="lora-since-start",
        title="B at zero, not A",
        found="Starting B at zero and A at random works better on average than the other way round, because it allows "
        "larger learning rates.",
        follows="The two starts give the same model before the first step, and still do not train alike. In a model as "
        "small as the one of the fact check this does not show.",
        source=src.LORA_INIT,
        place="abstract",
        version="June 2024",
        opens=lab("fact_check", claim="which-zero"),
    ),
    Discovery(
        id="lora-since-rank-one",
        title="Rank one where there is little to learn",
        found="In one study of reinforcement learning LoRA of rank one came out as good as full fine-tuning: an "
        "episode tells the model about one bit, and few parameters hold that.",
        follows="Choose the rank by how much there is to learn, not by how hard the task is; others found rank one too "
        "little, see below. No model is trained with "
        "rewards here; two classes tell as little, about a bit a row.",
        source=src.LORA_REGRET,
        place="Reinforcement learning",
        version="2025-09-29",
        experiment="lora-rank",
        expects=True,
        facts=(fact("lora", RANK_ONE, "", "sometimes", objective="rl"),),
    ),
    Discovery(
        id="lora-since-rank-rewards",
        title="Rank one was too little for others, and a very high rank collapsed",
        found="On reasoning models trained with rewards rank one was a severe bottleneck, as VeRA was; DoRA, AdaLoRA "
        "and MiSS came out above LoRA. Another study saw training with very high ranks collapse.",
        follows="Under rewards try two moderate ranks, each at its own rate, before you settle on either end.",
        source=src.RLVR_METHODS,
        place=f"abstract; {src.RANK_COLLAPSE}, abstract",
        version="v2",
        opens=lab("lora", model="llama-3.1-8b", r=1, target_modules="all-linear", tab="parameters"),
        facts=(fact("lora", RANK_ONE, "", "sometimes", objective="rl"),),
    ),
    Discovery(
        id="lora-since-intruders",
        title="Intruder dimensions",
        found="Matrices tuned with LoRA have strong singular vectors that resemble none of the pretrained ones; full "
        "fine-tuning makes none. LoRA forgets less than full fine-tuning, and what it forgets sits in them: scaling "
        "them down brings it back.",
        follows="Equal scores do not mean equal models. Look at the singular vectors of a run of your own.",
        source=src.INTRUDERS,
        place="abstract",
        version="v3",
        opens=lab("lora", tab="look inside"),
        facts=(fact("lora", FORGETS_LESS, "full"),),
    ),
    Discovery(
        id="lora-since-full-rank",
        title="Updates of full rank for the same price",
        found="RandLoRA reaches an update of full rank by scaling many frozen random matrices, and found that this "
        "helps, most of all on pictures with text. MiSS stays low in rank and repeats one trained matrix instead. In "
        "the published comparison both end near LoRA.",
        follows="Low rank is a choice of form, not the only way to train few numbers.",
        source=src.RANDLORA,
        place="abstract",
        version="v2",
        rows=FULL_RANK,
    ),
    Discovery(
        id="lora-since-experts",
        title="Experts can be adapted",
        found="Mixtures of experts keep all experts in one stacked parameter, which is no module. PEFT names such "
        "parameters by `target_parameters`, and some of its types adapt them. For LoRA on many families, Mixtral and "
        "OLMoE among them, it turns the names of modules into these by itself; for others, such as gpt-oss, it does "
        "not.",
        follows="Where it does not, names of modules leave out where most parameters are. Count what is trained.",
        source=src.PEFT,
        place="LoRA, Targeting nn.Parameter directly",
        version="0.21",
        dated=2026,
        opens=lab("atlas", type="lora", can=("on_experts",)),
    ),
)
