"""What the source text says about Prompt Tuning alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from peft_lab.core import units
from peft_lab.interview.claims.base import Found, Subject, counted, holds
from peft_lab.interview.claims.figures import TOKENS, share
from peft_lab.interview.question import prompted
from peft_lab.models.catalogue import get_model

FEW_TOKENS = 8


def _prompt_share(model: Subject) -> Found:
    few, more = (model.share("prompt", num_virtual_tokens=count) for count in (FEW_TOKENS, TOKENS))
    limit = 0.01
    verdict = "right" if more < limit else "imprecise" if few < limit else "wrong"
    return Found(
        verdict,  # type: ignore[arg-type]
        f"{share(few)} with {FEW_TOKENS} tokens, {share(more)} with {TOKENS}",
        "Tokens times width over all parameters: width grows far slower than the model, so the share is tiny only on "
        "large ones.",
        {"few": few, "more": more},
    )


def _tokenizer(model: Subject) -> Found:
    """The snippet reads its starting text with GPT-2's tokenizer, whatever the model."""
    theirs, own = get_model("gpt2").shape, model.shape
    assert theirs.vocab and own.vocab
    missing = max(0, theirs.vocab - own.vocab)
    beyond = (
        f"{units.count(missing)} of GPT-2's numbers are beyond it, and fail"
        if missing
        else "every number of GPT-2's is one of its, so nothing fails, and stands for something else"
    )
    same = own.model_type == theirs.model_type and not missing
    return Found(
        holds(same),
        f"GPT-2 numbers {units.count(theirs.vocab)} tokens, {own.title} {units.count(own.vocab)}: "
        + ("they are the same" if same else beyond),
        "The text is turned into numbers, and the model's own embeddings of these numbers are the start. Under another "
        "tokenizer they are embeddings of other words. Name the model's own in tokenizer_name_or_path.",
        {"theirs": theirs.vocab, "own": own.vocab, "missing": missing},
    )


CLAIMS = (
    counted(
        id="prompt-tokenizer", topic="prompt", check=_tokenizer, fits=prompted,
        how="sizes of the vocabularies in the models' configs",
        claim="A soft prompt's starting text can be read with GPT-2's tokenizer.",
        quote='prompt_tuning_init_text="Classify the sentiment of this review:", tokenizer_name_or_path="gpt2"',
    ),
    counted(
        id="prompt-share", topic="prompt", check=_prompt_share, fits=prompted,
        claim="Prompt Tuning trains less than 0.01% of the parameters.", quote="Prompt Tuning | <0.01%",
    ),
)  # fmt: skip
