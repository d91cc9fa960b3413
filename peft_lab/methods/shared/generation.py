"""Generating with virtual tokens where PEFT and transformers call the key/value cache by different names.

transformers 5.24 renamed ``past_key_values`` to ``cache``. Its models still accept the old name, but what they prepare
for each step of ``generate`` carries the new one, which PEFT 0.21 does not look for: a prefix is then silently ignored
and a prompt is put in front again at every step. Without a cache (``use_cache=False``) a prompt is right, a prefix at
the first token only: PEFT gives a prefix as a cache, the model fills it and hands it back, and the whole text is read
again after it. A test compares ``generate`` with one forward pass per token.
"""

from __future__ import annotations

from typing import Any

#: The same for people: pages, the clinic and whoever else advises on ``generate``. Tests measure each sentence.
RELEASES = "PEFT 0.21.2 with transformers 5.24.0"
PREFIX_LOST = (
    f"On {RELEASES}, generate ignores a prefix, on the PeftModel too: it writes what the base writes. "
    "use_cache=False is right for the first token only."
)
PROMPT_REPEATED = (
    f"On {RELEASES}, generate puts virtual tokens of the input in front again at every step. "
    "use_cache=False is right."
)
BRIDGED = "Models that are trained or loaded here, and exported scripts, carry a fix."


class CacheNames:
    """Stands between PEFT's and the base model's ``prepare_inputs_for_generation`` and gives the cache both names."""

    def __init__(self, peft_model: Any) -> None:
        self.peft_model = peft_model
        self.base = peft_model.base_model_prepare_inputs_for_generation
        self.given: Any = None

    def from_base(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the base model prepares, with the cache under the old name too; without a cache, nothing of a step
        before."""
        inputs: dict[str, Any] = self.base(*args, **kwargs)
        if inputs.get("use_cache") is False:
            for name in ("cache", "past_key_values"):
                inputs.pop(name, None)
        self.given = inputs.get("cache")
        if self.given is not None:
            inputs["past_key_values"] = self.given
        return inputs

    def from_peft(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What PEFT makes of it, with the cache under the new name if PEFT replaced it."""
        inputs: dict[str, Any] = type(self.peft_model).prepare_inputs_for_generation(
            self.peft_model, *args, **kwargs
        )
        if self.given is not None:
            cache = inputs.pop("past_key_values", None)
            if cache is not None and cache is not self.given:
                inputs["cache"] = cache
        return inputs


def bridge_cache_names(peft_model: Any) -> None:
    """Install :class:`CacheNames` on a PEFT model with a prompt; nothing to do on models that do not generate."""
    if hasattr(peft_model, "base_model_prepare_inputs_for_generation"):
        names = CacheNames(peft_model)
        peft_model.base_model_prepare_inputs_for_generation = names.from_base
        peft_model.prepare_inputs_for_generation = names.from_peft
