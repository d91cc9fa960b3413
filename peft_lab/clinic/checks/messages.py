"""What libraries say on a console, in their own words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from peft_lab.clinic.checks.gradients import no_gradients
from peft_lab.clinic.evidence import HINT, PROOF, SOME, STRONG, Evidence, check
from peft_lab.clinic.features import Features

#: A message, the fault it speaks for, and how much.
SAID: tuple[tuple[str, str, float], ...] = (
    (r"None of the inputs have requires_grad=True", "checkpointing-no-grad", PROOF),
    (r"Target modules .* not found in the base model", "target-misspelt", PROOF),
    (r"No modules were targeted for adaptation", "target-misspelt", STRONG),
    (r"Attempting to unscale FP16 gradients", "fp16-unscale", PROOF),
    (r"to have the same dtype|should be the same dtype|must have the same dtype", "dtype-mismatch", PROOF),
    (r"size mismatch for (?!.*(?:embed_tokens|lm_head|word_embeddings|wte))", "wrong-base", STRONG),
    (r"size mismatch for .*(?:embed_tokens|lm_head|word_embeddings|wte)", "vocabulary-not-saved", STRONG),
    (r"Already found a `peft_config` attribute", "wrapped-twice", STRONG),
    (r"modify a model with PEFT for a second time", "wrapped-twice", STRONG),
    (r"Found missing adapter keys.*base_model\.model\.base_model", "fresh-then-loaded", PROOF),
    (r"KeyError: '?base_model\.model\.base_model", "fresh-then-loaded", PROOF),  # where a head is loaded, too
    (r"Found missing adapter keys", "fresh-then-loaded", SOME),
    (r"Found missing adapter keys", "compiled-keys", HINT),
    (r"Merge lora module to [48]-bit linear may get different", "merged-into-4-bit", PROOF),
    (r"tie_word_embeddings=True.*part of the adapter", "tied-head-merged", STRONG),
    (r"right-padding was detected", "right-padding", PROOF),
    (r"[Cc]ould not find (?:the )?response key|response_template", "all-masked", STRONG),
    (r"(?:classifier|score)\S* .*MISSING|newly initialized.*(?:classifier|score)", "head-not-saved", 0.7),
)  # fmt: skip
LONGEST = 160  # characters of a message that are quoted


@check("messages")
def said(seen: Features) -> Iterator[Evidence]:
    """Known messages, each once."""
    for pattern, fault, weight in SAID:
        line = next((line for line in seen.of.messages or () if re.search(pattern, line)), None)
        if line is not None:
            yield Evidence(fault, weight, f"the log says “{line[:LONGEST]}”")


@check("messages")
def nothing_trained(seen: Features) -> Iterator[Evidence]:
    """A count of trained parameters that is zero, or a backward pass without anything to do."""
    pattern = r"trainable params: 0\b|does not require grad and does not have a grad_fn"
    line = next((line for line in seen.of.messages or () if re.search(pattern, line)), None)
    if line is not None:
        yield from no_gradients(seen, f"the log says “{line[:LONGEST]}”")
