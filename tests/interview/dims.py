"""Sizes of a catalogue model, read from its published config alone, for recomputing answers by other means.

Nothing here uses :mod:`peft_lab.models.shapes` or a method's formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft_lab.models.catalogue import get_model

LLAMA_LIKE = ("llama", "mistral", "qwen2", "gemma2")
FUSED = ("gpt2", "bloom")


@dataclass(frozen=True)
class Dims:
    family: str
    d: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    f: int
    vocab: int
    positions: int
    types: int
    tied: bool
    gate: bool = False  # of T5's feed-forward part

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head

    @property
    def qw(self) -> int:
        return self.heads * self.head

    @property
    def gated(self) -> bool:
        return self.family in LLAMA_LIKE

    @property
    def maps(self) -> dict[str, tuple[int, int]]:
        """Linear maps of one layer: (inputs, outputs)."""
        if self.family in FUSED:
            attention = {"qkv": (self.d, 3 * self.d), "o": (self.d, self.d)}
        else:
            kv = (self.d, self.kv)
            attention = {"q": (self.d, self.qw), "k": kv, "v": kv, "o": (self.qw, self.d)}
        feed = {"up": (self.d, self.f), "down": (self.f, self.d)}
        return attention | ({"gate": (self.d, self.f)} if self.gated else {}) | feed

    @property
    def weights(self) -> int:
        """Entries of all the layers' linear maps."""
        return self.layers * sum(i * o for i, o in self.maps.values())

    @property
    def map_biases(self) -> int:
        """Biases of one layer's linear maps."""
        if self.family == "qwen2":
            return self.qw + 2 * self.kv
        return 0 if self.gated else sum(o for _, o in self.maps.values())

    @property
    def norms(self) -> int:
        """How many norms there are, in layers and outside."""
        per_layer = 4 if self.family == "gemma2" else 2
        outside = {"bloom": 2}.get(self.family, 1)
        return per_layer * self.layers + outside

    @property
    def norm_biases(self) -> int:
        return 0 if self.gated else self.norms * self.d

    @property
    def biases(self) -> int:
        if self.family == "t5":
            return 0
        pooler = self.d if self.encoder else 0
        return self.layers * self.map_biases + self.norm_biases + pooler

    @property
    def encoder(self) -> bool:
        return self.family in ("bert", "roberta")

    @property
    def total(self) -> int:
        if self.family == "t5":
            return self._t5_total
        embeddings = self.vocab * self.d * (1 if self.tied else 2)
        if self.encoder or self.family == "gpt2":
            embeddings += (self.positions + self.types) * self.d
        pooler = self.d * self.d if self.encoder else 0
        return embeddings + self.weights + self.norms * self.d + self.biases + pooler

    @property
    def _t5_total(self) -> int:
        """Encoder: attention and feed-forward, two norms. Decoder: one more attention and norm. No biases."""
        attention, feed = 4 * self.d * self.qw, (3 if self.gate else 2) * self.d * self.f
        layer = (attention + feed + 2 * self.d) + (2 * attention + feed + 3 * self.d)
        relative = 2 * 32 * self.heads  # one table of 32 distances in each half
        tables = self.vocab * self.d * (1 if self.tied else 2)
        return tables + self.layers * layer + relative + 2 * self.d

    def lora(self, r: int, *roles: str) -> int:
        return self.layers * r * sum(sum(self.maps[role]) for role in roles)

    def lora_all(self, r: int) -> int:
        extra = r * 2 * self.d if self.encoder else 0  # BERT types have a pooler
        return self.lora(r, *self.maps) + extra


def dims(name: str) -> Dims:
    config = dict(get_model(name).config)
    family = config["model_type"]

    def get(*names: str) -> Any:
        return next((config[key] for key in names if config.get(key) is not None), None)

    d, heads = get("hidden_size", "n_embd", "d_model"), get("num_attention_heads", "n_head", "num_heads")
    return Dims(
        family=family,
        d=d,
        layers=get("num_hidden_layers", "n_layer", "num_layers"),
        heads=heads,
        kv_heads=get("num_key_value_heads") or heads,
        head=get("head_dim", "d_kv") or d // heads,
        f=get("intermediate_size", "n_inner", "d_ff") or 4 * d,
        vocab=config["vocab_size"],
        positions=get("max_position_embeddings", "n_positions") or 0,
        types=config.get("type_vocab_size", 2 if family == "bert" else 1 if family == "roberta" else 0),
        tied=config.get("tie_word_embeddings", family not in ("llama", "mistral", "qwen2")),
        gate=str(config.get("feed_forward_proj", "")).startswith("gated"),
    )
