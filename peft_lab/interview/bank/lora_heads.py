"""Questions on what LoRA's own maps leave out: experts, new tokens, embeddings and heads."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import lora_heads as calc
from peft_lab.interview.question import Question, causal, gated, then
from peft_lab.models.shapes import ModelShape

MODEL = "llama-3.2-3b"
TOKENS = f"{src.PEFT}, LoRA, Efficiently train tokens alongside LoRA"
ask = partial(Question, topic="lora", model=None)


def gated_causal(shape: ModelShape) -> bool:
    return causal(shape) and gated(shape)


QUESTIONS = (
    ask(
        id="lora-experts-count", level="hard", kind="numeric", calculate=calc.experts,
        given={"blocks": 48, "experts": 128, "active": 8, "wide": 2048, "width": 768, "r": 8},
        question="A mixture of experts has {{blocks}} layers with {{experts}} experts each, {{active}} of them "
        "active for a token. An expert has a gate, an up and a down map between {{wide}} and {{width}}. How many "
        "parameters has LoRA of rank {{r}} on every map of every expert?",
        answer="{{value}}: far from small. A token passes through {{share}} percent of them.",
        listen_for=(
            "every expert has its own pair",
            "compares with LoRA on attention alone",
            "a small rank per expert",
        ),
        wrong=("counts the active experts", "one adapter shared by all experts"),
        follow_ups=(
            then(
                "How would you make it smaller?",
                "A smaller rank for each expert, only the experts that the task routes to, or ranks that follow the "
                "routing, as in DR-LoRA.",
                f"{src.DR_LORA}, abstract",
            ),
            then(
                "PEFT counts another number on your model. Which?",
                "Where gate and up are one stacked parameter they share a pair. Named by `target_parameters` it has "
                "the rank that is set, so A is there once and the count is smaller. Where PEFT turns the names of gate "
                "and up into it the rank is doubled, and every column of B is as high as both maps: the count is "
                "larger.",
                f"{src.PEFT}, utils/transformers_weight_conversion.py",
            ),
            then("Which part does a token use?", to="lora-experts-share"),
        ),
        sources=(f"{src.LORA}, section 4.1", f"{src.PEFT}, target_parameters"),
    ),
    ask(
        id="lora-experts-share", level="medium", kind="numeric", calculate=calc.active_share,
        given={"experts": 128, "active": 8},
        question="{{active}} of {{experts}} experts are active for each token. Which share of the experts' adapters "
        "receives a gradient from one token?",
        answer="{{value}}. The adapters of the others are stored, held and served all the same.",
        listen_for=("stored against active", "consequence: each expert's adapter sees a fraction of the tokens"),
        wrong=("all of them", "one expert's share"),
        follow_ups=(
            then("What does that mean for how many tokens you need?", to="lora-experts-starved"),
            then(
                "And for a server?",
                "Slots have to hold the adapters of all experts, and a batch of tokens touches most experts, so "
                "kernels for grouped products are needed.",
                src.VLLM_CODE,
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, f"{src.DR_LORA}, abstract"),
    ),
    ask(
        id="lora-experts-parameters", level="medium", kind="free",
        question="You target `gate_proj`, `up_proj` and `down_proj` of Llama 4 or gpt-oss, mixtures of experts, and "
        "PEFT adapts next to nothing of the experts. Why, and what helps?",
        answer="They stack all experts of a layer in one three-dimensional `nn.Parameter`; there is no "
        "`nn.Linear` whose forward could be wrapped. PEFT's `target_parameters` names such parameters (for example "
        "`feed_forward.experts.gate_up_proj`) and takes the first dimension for the experts. For LoRA on many other "
        "families, Mixtral, OLMoE, Qwen3 or DeepSeek, PEFT turns the old names into these by itself, with twice the "
        "rank where gate and up are one. It has limits: no dropout and no DoRA there, and all adapters of a model "
        "must target the same parameters. Count the trainable parameters against the formula before training.",
        listen_for=(
            "The experts of a layer are stacked in one three-dimensional parameter; there is no linear module to "
            "wrap.", "PEFT's `target_parameters` names such parameters.",
            "Count the trainable parameters before training.", "It has limits there: no dropout and no DoRA.",
        ),
        wrong=("raises the rank", "'experts must stay frozen'", "'the experts are separate linear modules'"),
        follow_ups=(
            then(
                "May a second adapter target other parameters?",
                "No: wrappers of several parameters of one module are nested, and the adapter's keys depend on how. "
                "So PEFT takes a second adapter with the same parameters only, and says so when it has others.",
                f"{src.PEFT}, LoRA, ParamWrapper",
            ),
            then(
                "Would you adapt the router?",
                "Seldom: a changed router sends tokens to other experts, which moves everything at once and can "
                "unbalance the load. Leave it frozen first and look at the routing.",
                src.ALGEBRA,
                f"{src.DR_LORA}, abstract",
            ),
        ),
        sources=(f"{src.PEFT}, LoRA, Targeting nn.Parameter directly", f"{src.PEFT}, target_parameters"),
    ),
    ask(
        id="lora-experts-starved", level="hard", kind="free",
        question="After LoRA on all experts of a mixture some adapters are still at their start. What happened, and "
        "is it a problem?",
        answer="Routing is skewed: for a narrow task a few experts get most tokens and others almost none, so their "
        "B never leaves zero. That is harmless for the task, but wasteful: ranks are spread evenly while need is "
        "not, and an expert that sees few tokens gets a noisy update. Count the tokens of each expert on your data, "
        "give rank where they go (DR-LoRA grows ranks by routing frequency and importance), and check that a rarely "
        "used expert was not changed by a handful of examples.",
        listen_for=(
            "B = 0 stays where no token arrives",
            "skewed routing by task",
            "rank by need",
            "noise in rare experts",
        ),
        wrong=("'the run is broken, start again'",),
        follow_ups=(
            then(
                "How do you see it in the adapter's file?",
                "Norms of B by expert: exact zeros where no gradient ever came. Adam moves an entry by about the "
                "rate at the first gradient, so zero means none.",
                f"{src.ADAM}, algorithm 1",
            ),
            then(
                "Does weight decay change that picture?",
                "Not for B: it starts at zero, and decay keeps zero at zero. It shrinks A, which changes nothing "
                "while B is zero.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.DR_LORA}, abstract", src.ALGEBRA),
    ),
    ask(
        id="lora-tokens-count", level="basic", kind="numeric", calculate=calc.tokens, model=MODEL, fits=gated_causal,
        given={"new": 6},
        question="LoRA with `trainable_token_indices` for {{new}} new tokens on {{model}} (hidden size {{hidden}}). "
        "How many parameters do the tokens add?",
        answer="{{value}}: a row of the embedding for each.",
        listen_for=("a row per token", "the rest of the embedding stays as it was"),
        wrong=("the whole embedding",),
        follow_ups=(
            then("What does it save against `modules_to_save=['embed_tokens']`?", to="lora-tokens-saved"),
            then(
                "What if the output layer is tied to the embedding?",
                "Then the same rows are the new tokens' output vectors; PEFT ties the trained rows as well, so both "
                "sides change together.",
                f"{src.PEFT}, trainable_tokens, tied adapter",
            ),
        ),
        sources=(TOKENS,),
    ),
    ask(
        id="lora-tokens-saved", level="medium", kind="numeric", calculate=calc.tokens_saved, model=MODEL,
        fits=gated_causal, given={"new": 6},
        question="{{new}} new tokens are added to {{model}} (vocabulary {{vocab}} before, hidden {{hidden}}). By how "
        "many bytes is the adapter's file smaller with `trainable_token_indices` than with the whole embedding in "
        "`modules_to_save`, in bfloat16?",
        answer="{{value}}: the whole embedding has the new rows as well, and what is left for them is {{left}} kB. "
        "Training memory differs by more: gradient and moments of the whole embedding are gone, too.",
        listen_for=("vocabulary times hidden is the large number", "other tokens keep what they had learnt"),
        wrong=("nothing, since LoRA is small anyway",),
        follow_ups=(
            then(
                "Why is training all of the embedding risky for quality?",
                "With few data most rows get no or noisy gradients, and weight decay moves even tokens that never "
                "occur.",
                TOKENS,
                src.ALGEBRA,
            ),
            then(
                "And LoRA on the embedding?",
                "`target_modules` with `embed_tokens` is a low-rank change of every row: small, but not specific to "
                "the new tokens.",
                TOKENS,
            ),
        ),
        sources=(TOKENS, src.ALGEBRA),
    ),
    ask(
        id="lora-head-memory", level="hard", kind="numeric", calculate=calc.head, model=MODEL, fits=gated_causal,
        question="Someone adds `lm_head` of {{model}} (vocabulary {{vocab}}, hidden {{hidden}}) to "
        "`modules_to_save` of a LoRA run. Trained copy, gradient and Adam moments in float32: how many bytes does "
        "that add?",
        answer="{{value}}: it trains {{times}} times as many parameters as LoRA of rank sixteen on every map.",
        listen_for=(
            "a full copy is trained, not a low-rank change",
            "copy, gradient, two moments",
            "the file grows as well",
        ),
        wrong=("a few megabytes, as for LoRA",),
        follow_ups=(
            then(
                "What can you do instead?",
                "Train only the rows that are needed (`trainable_token_indices`), or put LoRA on the head, which is "
                "a low-rank change of all rows.",
                TOKENS,
            ),
            then("What does it break on a server?", to="server-modules-to-save"),
        ),
        sources=(f"{src.PEFT}, modules_to_save", f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="lora-head-tied", level="hard", kind="free",
        question="A model ties its embedding and its output layer. You put `lm_head` into `modules_to_save`. What "
        "becomes of the tie, and how do you keep it?",
        answer="`modules_to_save` makes a trained copy of the named module and leaves the original: unless PEFT is "
        "told otherwise the copy is no longer the embedding, so the output layer moves and the embedding stays, and "
        "the model has grown by a whole matrix. `ensure_weight_tying=True` ties the copies again for layers passed "
        "by `modules_to_save` and `target_modules`. Decide what you want: new output vectors only, or both sides. "
        "And check after loading that parameters count once.",
        listen_for=(
            "a copy breaks the tie",
            "ensure_weight_tying",
            "which side should change",
            "counts after loading",
        ),
        wrong=("'tied weights are trained together anyway'",),
        follow_ups=(
            then(
                "What goes wrong when such an adapter is merged?",
                "The merged model has two different matrices; saved with a config that still says tied, one of them "
                "is dropped on loading.",
                f"{src.PEFT}, ensure_weight_tying",
                src.ALGEBRA,
            ),
            then("And LoRA on a tied head?", to="lora-tied-head"),
        ),
        sources=(f"{src.PEFT}, ensure_weight_tying", f"{src.PEFT}, modules_to_save"),
    ),
    ask(
        id="lora-resized-vocabulary", level="medium", kind="free",
        question="You added tokens, resized the embedding, trained LoRA and saved. A colleague loads it and gets a "
        "size mismatch, or nonsense at the new tokens. What must happen on both sides?",
        answer="When saving, the rows have to be in the file: PEFT notices a changed vocabulary or a targeted "
        "embedding and saves the embedding layers (`save_embedding_layers='auto'`, or force it); with "
        "`trainable_token_indices` only the rows go in. The tokenizer must be saved as well. When loading, take the "
        "same base, add the same tokens in the same order, resize before loading the adapter, then load. Nonsense "
        "without an error means random rows: they were made anew and never replaced.",
        listen_for=(
            "rows are part of what was trained",
            "tokenizer travels with the adapter",
            "resize before loading",
            "order of added tokens",
        ),
        wrong=("retrains", "resizes after loading"),
        follow_ups=(
            then(
                "Why can the automatic check fail offline?",
                "It compares the vocabulary with the base's published config, for which it needs access to it; "
                "without, it may take the embedding for unchanged.",
                f"{src.PEFT}, get_peft_model_state_dict, save_embedding_layers",
            ),
            then(
                "How do you test it before you ship?",
                "Load in a fresh process from files alone, and compare the logits of a prompt with new tokens with "
                "those at the end of training.",
                f"{src.PEFT}, Troubleshooting, Extending the vocabulary",
            ),
        ),
        sources=(
            f"{src.PEFT}, Troubleshooting, Extending the vocabulary",
            f"{src.PEFT}, get_peft_model_state_dict, save_embedding_layers",
        ),
    ),
)  # fmt: skip
