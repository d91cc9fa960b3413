"""Types that leave every weight alone and give the model trained vectors to read."""

from __future__ import annotations

from peft_lab.atlas.base import AtlasType, Paper, Usual
from peft_lab.models.shapes import ModelShape


def _sides(shape: ModelShape) -> int:
    """PEFT puts soft tokens before the encoder and the decoder of a model that has both."""
    return 2 if shape.kind == "seq2seq" else 1


PROMPT_TUNING = AtlasType(
    type="PROMPT_TUNING",
    title="Prompt Tuning",
    family="inputs",
    parent="",
    update="[P; X]: n trained vectors before the embedded text",
    paper=Paper(
        "Lester et al. 2021, Prompt Tuning", "section 2; PEFT 0.21, tuners/prompt_tuning", "2104.08691"
    ),
    knobs=(Usual("num_virtual_tokens", (20, 8, 100), "Soft tokens before the text."),),
    targets=(),
    differs="It starts the line: soft tokens at the input, and nothing else.",
    when="With a very large model and many tasks in one batch; on small ones it learns slowly.",
    form="n·d",
    once=lambda shape, groups, c: c["num_virtual_tokens"] * shape.hidden * _sides(shape),
    rate=1e-1,
    taught="prompt",
)
MULTITASK = AtlasType(
    type="MULTITASK_PROMPT_TUNING",
    title="Multitask Prompt Tuning",
    family="inputs",
    parent="PROMPT_TUNING",
    update="[P ⊙ (u_k·v_kᵀ); X]: one prompt for all tasks, times a rank-one matrix for task k",
    paper=Paper("Wang et al. 2023, MPT", "PEFT 0.21, tuners/multitask_prompt_tuning", "2303.02861"),
    knobs=(
        Usual("num_virtual_tokens", (20, 100), "Soft tokens before the text."),
        Usual("num_tasks", (2, 4), "Tasks, each with a rank-one matrix of its own."),
        Usual("num_ranks", (1, 2), "Rank of a task's own matrix."),
    ),
    targets=(),
    differs="A prompt that tasks share, and a rank-one correction for each.",
    when="With several related tasks and little data for each; a batch has to name its tasks.",
    form="n·d + tasks·ranks·(n + d)",
    once=lambda shape, groups, c: (
        c["num_virtual_tokens"] * _sides(shape) * shape.hidden
        + c["num_tasks"] * c["num_ranks"] * (c["num_virtual_tokens"] * _sides(shape) + shape.hidden)
    ),
    rate=1e-1,
)
P_TUNING = AtlasType(
    type="P_TUNING",
    title="P-Tuning",
    family="inputs",
    parent="PROMPT_TUNING",
    update="[MLP(E); X]: soft tokens computed by a network that is thrown away after training",
    paper=Paper("Liu et al. 2021, P-Tuning", "section 2; PEFT 0.21, tuners/p_tuning", "2103.10385"),
    knobs=(
        Usual("num_virtual_tokens", (20, 8), "Soft tokens before the text."),
        Usual(
            "encoder_hidden_size", (128, 1024), "Width of the network; its own default is the model's width."
        ),
    ),
    targets=(),
    differs="The soft tokens come out of a small network while training, which makes them easier to learn.",
    when="Where plain soft tokens do not move.",
    form="n·d + d·w + w² + w·d and biases",
    once=lambda shape, groups, c: (
        c["num_virtual_tokens"] * _sides(shape) * shape.hidden
        + c["encoder_hidden_size"] * (2 * shape.hidden + c["encoder_hidden_size"] + 2)
        + shape.hidden
    ),
    rate=1e-2,
    taught="ptuning",
)
PREFIX_TUNING = AtlasType(
    type="PREFIX_TUNING",
    title="Prefix Tuning",
    family="inputs",
    parent="PROMPT_TUNING",
    update="softmax(q·[P_k; K]ᵀ)·[P_v; V]: n trained keys and values in every layer",
    paper=Paper("Li & Liang 2021, Prefix-Tuning", "section 4; PEFT 0.21, tuners/prefix_tuning", "2101.00190"),
    knobs=(Usual("num_virtual_tokens", (20, 100), "Trained keys and values a layer."),),
    targets=(),
    differs="Trained vectors in every layer's attention instead of at the input only.",
    when="When weights have to stay and a prompt at the input is too weak.",
    form="2·L·n·d_kv",
    once=lambda shape, groups, c: 2 * shape.num_layers * shape.kv_width * c["num_virtual_tokens"],
    rate=1e-2,
    taught="prefix",
)
CARTRIDGE = AtlasType(
    type="CARTRIDGE",
    title="Cartridges",
    family="inputs",
    parent="PREFIX_TUNING",
    update="softmax(q·[P_k; K]ᵀ)·[P_v; V], started from a real text's keys and values, the first kept frozen",
    paper=Paper("Eyuboglu et al. 2025, Cartridges", "PEFT documentation, Cartridges", "2506.06266"),
    knobs=(
        Usual("num_virtual_tokens", (64, 512), "Length of the trained cache."),
        Usual("num_frozen_tokens", (1, 0), "First tokens that are kept as they start: the attention sink."),
    ),
    targets=(),
    differs="It stands for one long document: started from its cache and trained to answer as if it had been read.",
    when="When the same long text is asked about again and again.",
    form="2·L·(n − frozen)·d_kv",
    once=lambda shape, groups, c: (
        2 * shape.num_layers * shape.kv_width * (c["num_virtual_tokens"] - c["num_frozen_tokens"])
    ),
    rate=1e-2,
)
ADAPTION_PROMPT = AtlasType(
    type="ADAPTION_PROMPT",
    title="LLaMA-Adapter",
    family="inputs",
    parent="PREFIX_TUNING",
    update="attention(x) + g·attention to P, with a trained gate g that starts at 0",
    paper=Paper("Zhang et al. 2023, LLaMA-Adapter", "PEFT 0.21, tuners/adaption_prompt", "2303.16199"),
    knobs=(
        Usual("adapter_len", (10, 20), "Trained prompt vectors a layer."),
        Usual("adapter_layers", (4, 8), "Upper layers that get them."),
    ),
    targets=(),
    differs="Prompts in the upper layers only, behind a gate that starts at 0, so training starts from the base.",
    when="On Llama, Mistral and GPT-2 models, the only ones it runs on, where a gentle start matters.",
    form="layers·(n·d + 1)",
    once=lambda shape, groups, c: c["adapter_layers"] * (c["adapter_len"] * shape.hidden + 1),
    rate=1e-2,
)
CPT = AtlasType(
    type="CPT",
    title="CPT",
    family="inputs",
    parent="PROMPT_TUNING",
    update="[E(examples) + δ; X]: worked examples as the prompt, each token moved by a bounded δ",
    paper=Paper("Blau et al. 2024, Context-aware Prompt Tuning", "PEFT documentation, CPT", "2410.17222"),
    knobs=(Usual("opt_projection_epsilon", (0.1, 1.0), "How far a token of an example may move."),),
    settings={
        "cpt_token_ids": list(range(1, 17)),
        "cpt_mask": [1] * 16,
        "cpt_tokens_type_mask": [1, 2, 2, 2, 3, 3, 4, 4] * 2,
        "num_virtual_tokens": 16,
    },
    targets=(),
    differs="The prompt starts as worked examples, and its tokens may move only a little.",
    when="For classification with a handful of examples.",
    form="n·d",
    once=lambda shape, groups, c: len(c["cpt_token_ids"]) * shape.hidden,
    rate=1e-2,
)
ENTRIES = (PROMPT_TUNING, MULTITASK, P_TUNING, PREFIX_TUNING, CARTRIDGE, ADAPTION_PROMPT, CPT)
