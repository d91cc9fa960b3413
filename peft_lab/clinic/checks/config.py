"""What the configs say."""

from __future__ import annotations

from collections.abc import Iterator

from peft_lab.clinic.evidence import HINT, PROOF, SOME, STRONG, Evidence, check
from peft_lab.clinic.features import Features

#: Initialisations that take the start of the adapter out of the base's weights.
MOVING = ("pissa", "olora", "corda")
_COLLATOR = "DataCollatorForLanguageModeling"


@check("adapter")
def alpha(seen: Features) -> Iterator[Evidence]:
    """α = 0."""
    adapter = seen.of.adapter or {}
    if adapter.get("lora_alpha") == 0:
        yield Evidence("alpha-zero", PROOF, f"lora_alpha is 0 (with r = {adapter.get('r')})")


@check("adapter")
def initialisation(seen: Features) -> Iterator[Evidence]:
    """PEFT writes ``true`` here once it has made a plain LoRA of it."""
    start = (seen.of.adapter or {}).get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MOVING):
        yield Evidence("base-changed", PROOF, f"init_lora_weights is '{start}', so the base was changed, too")


@check("adapter")
def targets_of_the_base(seen: Features) -> Iterator[Evidence]:
    """Names that the base has nowhere."""
    if seen.base is None or not seen.targets:
        return
    lost = seen.base.match(list(seen.targets)).unmatched
    quoted = ", ".join(f"'{name}'" for name in lost)
    if lost and len(lost) == len(seen.targets):
        yield Evidence("target-misspelt", PROOF, f"{seen.base.title} has no module called {quoted}")
    elif lost:
        yield Evidence("target-partly-misspelt", PROOF, f"{seen.base.title} has no module called {quoted}")


@check("arguments")
def prompts_in_the_loss(seen: Features) -> Iterator[Evidence]:
    """Arguments of TRL, Axolotl and Alpaca-LoRA that say which tokens are trained on."""
    arguments = seen.of.arguments or {}
    for name in ("completion_only_loss", "assistant_only_loss", "mask_prompt"):
        if arguments.get(name) is False:
            yield Evidence(
                "prompt-not-masked", STRONG, f"{name} is false: the prompt's tokens are in the loss"
            )
    if arguments.get("train_on_inputs") is True:
        yield Evidence(
            "prompt-not-masked", STRONG, "train_on_inputs is true: the prompt's tokens are in the loss"
        )


@check("tokens")
def pad_and_end(seen: Features) -> Iterator[Evidence]:
    """Common, and harmful only where the collator masks by the token."""
    tokens = seen.of.tokens
    if tokens is None or tokens.pad is None or tokens.pad != tokens.eos:
        return
    text = f"pad_token and eos_token are both '{tokens.pad}'"
    if str(seen.of.argument("data_collator")) == _COLLATOR:
        yield Evidence("pad-is-eos", STRONG, f"{text}, and {_COLLATOR} masks every pad token")
    else:
        yield Evidence("pad-is-eos", HINT, f"{text}; harmful where the collator masks by the token")


@check("rows", "arguments")
def length_of_outputs(seen: Features) -> Iterator[Evidence]:
    """Outputs that all run into the limit."""
    limit = seen.number("generation_max_length", "max_new_tokens")
    lengths = [row.gen_len for row in seen.of.rows or () if row.gen_len is not None]
    if limit and lengths and lengths[-1] >= limit:
        text = f"outputs are {lengths[-1]:g} tokens long on average, which is the limit: none of them ends"
        yield Evidence("pad-is-eos", SOME, text)


@check("arguments")
def half_precision(seen: Features) -> Iterator[Evidence]:
    """Weights loaded in fp16. Mixed precision alone (fp16=True) keeps what is trained in fp32."""
    said = str(seen.of.argument("torch_dtype", "dtype", "model_dtype"))
    if said.removeprefix("torch.") in ("float16", "fp16", "half"):
        yield Evidence("fp16-weights", HINT, f"the model was loaded in {said}")
        if seen.yes("fp16"):
            yield Evidence("fp16-unscale", SOME, f"the model was loaded in {said}, and fp16 is true")
