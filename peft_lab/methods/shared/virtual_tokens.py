"""Provide what methods with virtual tokens share: width and number in PEFT, positions, starts, and generation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Problem
from peft_lab.methods.shared.peft_backed import PeftMethod, without_dropout
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelKind, ModelShape, ModuleGroup

#: Why the names are bridged: exported scripts have it as a comment.
WHY_BRIDGED = """Generating with virtual tokens where PEFT and transformers call the key/value cache by different names.

transformers 5.24 renamed ``past_key_values`` to ``cache``. Its models still accept the old name. But for each step of
``generate`` they prepare inputs under the new name, which PEFT 0.21 does not look for: a prefix is then silently
ignored, and a prompt is put in front again at every step. Without a cache (``use_cache=False``) a prompt is right, a
prefix at the first token only: PEFT gives a prefix as a cache, the model fills it and hands it back, and the whole text
is read again after it. A test compares ``generate`` with one forward pass per token.
"""
#: The same for people: pages, the clinic and whoever else advises on ``generate``. Tests measure each sentence.
RELEASES = "PEFT 0.21.2 with transformers 5.24.0"
PREFIX_LOST = (
    f"With {RELEASES}, generate() ignores a prefix, even on a PeftModel, and writes what the base alone would write. "
    "With use_cache=False, only the first generated token is right."
)
PROMPT_REPEATED = (
    f"With {RELEASES}, generate() adds virtual input tokens again at every step. use_cache=False avoids this."
)
BRIDGED = "Models trained or loaded here and exported scripts contain a fix."


class CacheNames:
    """Stands between PEFT's and the base model's ``prepare_inputs_for_generation`` and gives the cache both names."""

    def __init__(self, peft_model: Any) -> None:
        self.peft_model = peft_model
        self.base = peft_model.base_model_prepare_inputs_for_generation
        self.given: Any = None

    def from_base(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the base model's inputs, with the cache under the old name too; with caching off, no cache."""
        inputs: dict[str, Any] = self.base(*args, **kwargs)
        if inputs.get("use_cache") is False:
            for name in ("cache", "past_key_values"):
                inputs.pop(name, None)
        self.given = inputs.get("cache")
        if self.given is not None:
            inputs["past_key_values"] = self.given
        return inputs

    def from_peft(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return PEFT's inputs, with the cache under the new name if PEFT replaced it."""
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


ROOM = 128  # positions, a sentence or two; the learner is warned if fewer are left


def rows(shape: ModelShape, values: Values) -> int:
    """Return the rows of PEFT's prompt table: the virtual tokens, twice that on encoder-decoder models. There PEFT sets
    ``num_transformer_submodules`` to 2, and its forward pass then reads the first half only."""
    tokens: int = values["num_virtual_tokens"]
    return tokens * (2 if shape.kind == "seq2seq" else 1)


def embedding_width(shape: ModelShape) -> int:
    """Return the width of one token's input embedding; the hidden size on nearly all models."""
    for group in shape.groups:
        if group.type == "Embedding" and group.parameters["weight"][0] == shape.vocab:
            return group.parameters["weight"][1]
    return shape.hidden


def room_problems(shape: ModelShape, tokens: int) -> Iterable[Problem]:
    """Yield a problem if virtual tokens take too many of the model's fixed number of positions."""
    limit = shape.max_positions
    if limit is None:
        return
    if tokens >= limit:
        yield Problem(
            "num_virtual_tokens",
            f"{shape.title} has {limit:,} positions, and {tokens:,} virtual tokens would take all of them. Choose "
            f"fewer than {limit:,}.",
        )
    elif limit - tokens < ROOM:
        yield Problem(
            "num_virtual_tokens",
            f"With {tokens:,} virtual tokens, {limit - tokens:,} of the {limit:,} positions of {shape.title} are left "
            "for text.",
            "warning",
        )


#: Texts to start virtual tokens from, for tasks that give none; models that write follow a form (JSON, a voice).
START_TEXTS: Mapping[ModelKind, str] = {
    "encoder": "Label this text as the examples show:",
    "causal-lm": "Answer in the right form, and write nothing else:",
    "seq2seq": "Answer in the right form, and write nothing else:",
}


#: Why virtual tokens are refused on models of images.
NO_TEXT = (
    "Virtual tokens are added to a text's embeddings or its key/value cache. A model that reads images has neither, "
    "and PEFT has no such method for it. Use LoRA, QLoRA, IA³, BitFit or adapters."
)


class VirtualTokenMethod(PeftMethod):
    """PEFT's prompt learning: virtual tokens made by a prompt encoder outside the base model.

    The base is frozen, and its dropout is off: see :func:`without_dropout`.
    """

    refuses: ClassVar[Mapping[ModelKind, str]] = {"vision": NO_TEXT}

    def virtual_tokens(self, values: Values) -> int:
        return int(values["num_virtual_tokens"])

    def in_every_layer(self, values: Values) -> bool:
        """Return whether keys and values of every layer are trained, rather than tokens before the text."""
        return False

    def recorder(self, values: Values) -> tuple[str, str]:
        name = "DeepRecorder" if self.in_every_layer(values) else "SoftTokenRecorder"
        return "recording.trained_tokens", name

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        without_dropout(model)
        return bridged(super().apply(model, shape, values, task_type))

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        return bridged(super().load(model, directory))


def text_problems(values: Values, start: str) -> Iterable[Problem]:
    """Yield a problem if the start is a text and no text is given."""
    if values[start] == "text" and not values["init_text"].strip():
        yield Problem("init_text", "Start is set to text, so an initial text is needed.")


def text_ids(model: Any, text: str, tokens: int) -> list[int]:
    """Return the text as ``tokens`` ids of the model's own tokenizer, repeated or cut."""
    from peft_lab.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model.name_or_path)
    ids: Any = tokenizer(" ".join([text] * tokens), truncation=True, max_length=tokens)["input_ids"]
    return list(ids)


def start_from_text(peft_model: Any, text: str, tokens: int) -> None:
    """Fill a prefix with a text's keys and values in the frozen model, using PEFT's own function."""
    from peft import initialize_kv_prefix_from_text

    from peft_lab.models.loading import load_tokenizer

    tokenizer = load_tokenizer(peft_model.get_base_model().name_or_path)
    initialize_kv_prefix_from_text(
        peft_model, tokenizer, text=" ".join([text] * tokens), use_chat_template=False, max_length=tokens
    )


def bridged(peft_model: torch.nn.Module) -> torch.nn.Module:
    """Return the model after :func:`bridge_cache_names`, so that it can generate whatever its cache is called."""
    bridge_cache_names(peft_model)
    return peft_model


class InputPromptMethod(VirtualTokenMethod):
    """Virtual tokens in front of the input embeddings: Prompt Tuning and P-Tuning."""

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        yield from room_problems(shape, values["num_virtual_tokens"])
        width = embedding_width(shape)
        if width != shape.hidden:
            yield Problem(
                "model",
                f"{shape.title} has token embeddings of width {width} and a hidden size of {shape.hidden}. PEFT makes "
                "virtual tokens as wide as the hidden size, so they do not fit beside the token embeddings.",
            )
        if shape.kind == "seq2seq":
            tokens = values["num_virtual_tokens"]
            yield Problem(
                "num_virtual_tokens",
                f"On encoder-decoder models, PEFT creates a table of {2 * tokens} rows but uses only the first "
                f"{tokens}, in the encoder: half of the counted parameters never learn.",
                "warning",
            )


# ----------------------------------------
# How virtual tokens and the frozen model around them start, beyond what PEFT's configs can express.
#
# Each function is also written verbatim into exported scripts. Torch is imported inside.


def start_as_words(model: Any, ids: Sequence[int]) -> None:
    """Set the last layer of P-Tuning's prompt encoder so that the encoder makes the embeddings of these tokens.

    Of all last layers that do, the smallest (pseudoinverse). With fewer hidden features than tokens they are met as
    well as least squares can. Solved on the processor in float64, which Apple's GPUs do not have.
    """
    import torch

    encoder = model.prompt_encoder["default"]
    words = model.get_base_model().get_input_embeddings().weight.detach()
    encoder.eval()
    with torch.no_grad():
        hidden = encoder.embedding.weight[None]
        if hasattr(encoder, "lstm_head"):
            hidden = encoder.lstm_head(hidden)[0]
        # PEFT makes two rows a token for an encoder-decoder and reads the first half of them.
        features = encoder.mlp_head[:-1](hidden)[0, : len(ids)].cpu().double()
        wanted = words[torch.tensor(list(ids), device=words.device)].cpu().double()
        encoder.mlp_head[-1].weight.copy_((torch.linalg.pinv(features) @ wanted).T)
        encoder.mlp_head[-1].bias.zero_()
    encoder.train()


# ----------------------------------------
# Deep prompts on encoders: trained keys and values before every layer's own (Liu et al. 2021, arXiv 2110.07602,
# section 3.2).
#
#     softmax(q [P_K; K]^T / sqrt(d)) [P_V; V]        P_K, P_V: heads x n x d_head in every layer
#
# PEFT writes such a prefix into the key/value cache, which BERT-type models lack in transformers 5. Here it uses
# transformers' own extension point: an attention function that prepends the layer's trained keys and values and then
# calls the library's. The text keeps its positions and its first token. Torch and transformers are imported inside
# the functions.


NAME = "sdpa_with_deep_prompts"  # the attention function's name in transformers' registry
CHILD = "deep_prompt"  # the attribute of an attention module that holds its trained keys and values
ATTENTION = "attention.self"  # the ending of an attention module's path on the supported models


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
) -> Any:
    """Attend to a layer's trained keys and values, from every position, and to the text's own.

    Args:
        query, key, value: (rows, heads, length, head size). mask: (rows, 1, length, length), true or 0 where a
            position may be attended to; ``None`` if all may.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    prompt = module.deep_prompt
    own = {"key": key, "value": value}
    for name, tensor in own.items():
        trained = prompt[name].to(tensor.dtype).expand(len(tensor), -1, -1, -1)
        own[name] = torch.cat((trained, tensor), dim=2)
    if mask is not None:
        seen = mask.new_full((*mask.shape[:-1], prompt["key"].shape[1]), mask.dtype == torch.bool)
        mask = torch.cat((seen, mask), dim=-1)
    return sdpa_attention_forward(module, query, own["key"], own["value"], mask, **options)


def fits(shape: ModelShape) -> bool:
    """Return whether a model's attention has the required structure: BERT, RoBERTa, ELECTRA and their kin."""
    return any(group.path.endswith(f"{ATTENTION}.key") for group in shape.groups)


def attention(shape: ModelShape) -> ModuleGroup:
    """Return the key maps of all layers, as a group."""
    return next(group for group in shape.groups if group.path.endswith(f"{ATTENTION}.key"))


def layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attention modules in the order of the layers, with their paths."""
    for path, module in model.named_modules():
        if path.endswith(ATTENTION):
            yield path, module


def add_prompts(model: Any, tokens: int, start: str, ids: Sequence[int] = ()) -> list[str]:
    """Give every layer ``tokens`` trained keys and values; return the new parameters' names.

    Args:
        start: ``zero``, ``random`` (normal, deviation 1) or ``text``: the keys and values of ``ids`` in the frozen
            model, repeated or cut to ``tokens``.
    """
    import torch

    found = keys_and_values(model, ids) if start == "text" else {}
    for path, module in layers(model):
        size = (module.num_attention_heads, tokens, module.attention_head_size)
        prompt = {}
        for name in ("key", "value"):
            if start == "text":
                prompt[name] = found[path][name][:, torch.arange(tokens) % len(ids)]
            else:
                make = torch.randn if start == "random" else torch.zeros
                prompt[name] = make(size, device=module.key.weight.device)
        module.deep_prompt = torch.nn.ParameterDict(prompt)
    use(model)
    return [name for name, _ in model.named_parameters() if f".{CHILD}." in name]


def use(model: Any) -> None:
    """Make the model compute its attention by :func:`attend`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def keys_and_values(model: Any, ids: Sequence[int]) -> dict[str, dict[str, torch.Tensor]]:
    """Return every layer's keys and values of a text, by its path: shape (heads, length, head size), float32."""
    import torch

    found: dict[str, dict[str, torch.Tensor]] = {}
    hooks = []
    for path, module in layers(model):
        for name in ("key", "value"):

            def keep(module: Any, _: Any, output: torch.Tensor, path: str = path, name: str = name) -> None:
                size = model.get_submodule(path).attention_head_size
                found.setdefault(path, {})[name] = output[0].float().unflatten(-1, (-1, size)).transpose(0, 1)

            hooks.append(getattr(module, name).register_forward_hook(keep))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model.base_model(input_ids=torch.tensor([list(ids)], device=model.device))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return found
