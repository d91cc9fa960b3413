"""Small experiments that settle a prediction, for the inspector process: plain values in, figures out.

Those on a model use a Llama of four small layers with random weights from a fixed seed: they take a second, need
no download and give the same figures every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput

if TYPE_CHECKING:
    import torch

SEED = 0
_TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 160, "vocab_size": 128, "tie_word_embeddings": False,
}  # fmt: skip
_TINY_BERT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 128,
}  # fmt: skip
_QUERY_VALUE = ["q_proj", "v_proj"]


def counted(contenders: Sequence[Sequence[Any]], quantity: str) -> list[float]:
    """Count each of (model, method, knobs) and read ``quantity`` off the report: ``trainable``, ``percent`` ..."""
    from peft_lab.counting import count

    return [float(getattr(count(model, method, values), quantity)) for model, method, values in contenders]


def peaks(contenders: Sequence[Sequence[Any]], batch: int, seq: int) -> list[float]:
    """Simulated peak bytes of a training step of each of (model, method, knobs, checkpointing)."""
    from peft_lab.memory.setting import Setting
    from peft_lab.memory.simulate import simulate

    setting = Setting(batch=batch, seq=seq)
    return [
        float(simulate(model, method, values, setting, checkpointing=checkpointing).peak_bytes)
        for model, method, values, checkpointing in contenders
    ]


def peak_growth(model: str, method: str, small: int, large: int, seq: int) -> list[float]:
    """Simulated peak with ``large`` rows over that with ``small`` rows, the method at its defaults."""
    few, many = (peaks([[model, method, {}, False]], batch, seq)[0] for batch in (small, large))
    return [many / few]


def first_gradients() -> list[float]:
    """Norms of the gradients of all A and of all B in LoRA's first step."""
    model = _lora(_tiny())
    _loss(model).backward()
    return [_gradient_norm(model, "lora_A"), _gradient_norm(model, "lora_B")]


def trained_from_zero(steps: int) -> list[float]:
    """How far the loss falls with B = 0 alone, and with A = B = 0."""
    import torch

    falls = []
    for zero_a in (False, True):
        model = _lora(_tiny())
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for name, parameter in model.named_parameters():
            if zero_a and "lora_A" in name:
                torch.nn.init.zeros_(parameter)
        optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
        start = float(_loss(model).detach())
        for _ in range(steps):
            optimizer.zero_grad()
            _loss(model).backward()
            optimizer.step()
        falls.append(start - float(_loss(model).detach()))
    return falls


def doubled_alpha() -> list[float]:
    """Norm of the correction at twice the α over that at α, A and B the same."""
    import torch

    model = _lora(_tiny())
    layer = model.get_submodule(_first(model, "lora_A").rsplit(".lora_A", 1)[0])
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    with torch.no_grad():
        before = layer.get_delta_weight("default").norm()
        layer.scale_layer(2.0)
        return [float(layer.get_delta_weight("default").norm() / before)]


def merge_differences() -> list[float]:
    """Difference of the logits after merging in percent of their norm, in float32 and in bfloat16."""
    import torch

    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = _lora(_tiny().to(dtype))
        _fill(model, "lora_B")
        model.eval()
        with torch.no_grad():
            before = model(_tokens()).logits.float()
            after = model.merge_and_unload()(_tokens()).logits.float()
        found.append(100 * float((after - before).norm() / before.norm()))
    return found


def merged_into_four_bits() -> list[float]:
    """Error of rounding W + ΔW to NF4 again, as a share of ΔW's norm, where ΔW is one percent of W."""
    import torch
    from bitsandbytes import functional

    _seed()
    base = torch.randn(512, 512) * 0.02
    stored = functional.dequantize_4bit(*functional.quantize_4bit(base, quant_type="nf4")).float()
    change = torch.randn(512, 8) @ torch.randn(8, 512)
    change *= 0.01 * stored.norm() / change.norm()
    again = functional.dequantize_4bit(*functional.quantize_4bit(stored + change, quant_type="nf4")).float()
    return [float((again - (stored + change)).norm() / change.norm())]


def four_bit_errors() -> list[float]:
    """Error of normal numbers in percent of their norm: NF4, FP4, evenly spaced 4-bit integers; blocks of 64."""
    import torch
    from bitsandbytes import functional

    _seed()
    weights = torch.randn(1 << 16, 64)
    errors = []
    for kind in ("nf4", "fp4"):
        restored = functional.dequantize_4bit(
            *functional.quantize_4bit(weights, blocksize=64, quant_type=kind)
        )
        errors.append(100 * float((restored.float() - weights).norm() / weights.norm()))
    scale = weights.abs().amax(dim=1, keepdim=True) / 7
    errors.append(100 * float(((weights / scale).round() * scale - weights).norm() / weights.norm()))
    return errors


def saved_share() -> list[float]:
    """Bytes that autograd keeps for LoRA on q and v, in percent of what it keeps for full fine-tuning."""
    full = _tiny()
    return [100 * _saved_bytes(_lora(_tiny())) / _saved_bytes(full)]


def misspelt_target() -> list[float]:
    """What PEFT does with one right and one misspelt target: refuse (first), warn (second) or pass (third)."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            _lora(_tiny(), targets=["q_proj", "v_porj"])
        except ValueError:
            return [1.0, 0.0, 0.0]
    warned = any("v_porj" in str(warning.message) for warning in caught)
    return [0.0, 1.0, 0.0] if warned else [0.0, 0.0, 1.0]


def wrapped_twice() -> list[float]:
    """Trainable parameters after wrapping one base for q, then for v, over those of a fresh base wrapped for v."""
    import warnings

    base = _tiny()
    _lora(base, targets=["q_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of it, rightly
        again = _trainable(_lora(base, targets=["v_proj"]))
    return [again / _trainable(_lora(_tiny(), targets=["v_proj"]))]


def prompt_positions(tokens: int) -> list[float]:
    """How many positions of logits come back for 12 tokens of text behind a soft prompt."""
    import torch
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens)
    model: Any = get_peft_model(_tiny(), config)
    with torch.no_grad():
        return [float(model(_tokens()[:1]).logits.shape[1])]


def pissa_disabled() -> list[float]:
    """Percent by which PiSSA's logits differ from the original model's: at step 0, and with the adapter off."""
    import torch

    with torch.no_grad():
        original = _tiny().eval()(_tokens()).logits
        model = _lora(_tiny(), start="pissa").eval()
        started = model(_tokens()).logits
        with model.disable_adapter():
            disabled = model(_tokens()).logits
    return [
        100 * float((started - original).norm() / original.norm()),
        100 * float((disabled - original).norm() / original.norm()),
    ]


def prefix_on_encoder() -> list[float]:
    """Prefix Tuning on a BERT that classifies: runs (first) or is refused (second)."""
    import torch
    from peft import PrefixTuningConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    _seed()
    base = BertForSequenceClassification(BertConfig(**_TINY_BERT))
    model: Any = get_peft_model(base, PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4))
    try:
        with torch.no_grad():
            model(_tokens())
    except ValueError as error:
        if "past key values" in str(error):
            return [0.0, 1.0]
        raise
    return [1.0, 0.0]


def bias_gradients() -> list[float]:
    """Largest gradient entry of the query's, key's and value's biases of a BERT, in float64."""
    from transformers import BertConfig, BertModel

    _seed()
    model = BertModel(BertConfig(**_TINY_BERT), add_pooling_layer=False).double().eval()
    model(_tokens()).last_hidden_state.pow(3).sum().backward()
    named = dict(model.named_parameters())
    return [
        max(float(_grad(p).abs().max()) for name, p in named.items() if name.endswith(f"{part}.bias"))
        for part in ("query", "key", "value")
    ]


# -- the small model ---------------------------------------------------------------------------------------------------


def _seed() -> None:
    import torch

    torch.manual_seed(SEED)


def _tiny() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    _seed()
    return LlamaForCausalLM(LlamaConfig(**_TINY))


def _tokens() -> torch.Tensor:
    import torch

    return torch.arange(24).reshape(2, 12) % 100


def _lora(base: Any, targets: Sequence[str] = tuple(_QUERY_VALUE), start: Any = True) -> Any:
    from peft import LoraConfig, get_peft_model

    _seed()
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=list(targets), init_lora_weights=start
    )
    return get_peft_model(base, config)


def _loss(model: Any) -> torch.Tensor:
    loss: torch.Tensor = model(_tokens(), labels=_tokens()).loss
    return loss


def _fill(model: Any, part: str) -> None:
    import torch

    _seed()
    for name, parameter in model.named_parameters():
        if part in name:
            torch.nn.init.normal_(parameter, std=0.02)


def _first(model: Any, part: str) -> str:
    return next(name for name, _ in model.named_parameters() if part in name)


def _trainable(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _grad(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        raise BadInput("A parameter that should be trained got no gradient.")
    return parameter.grad


def _gradient_norm(model: Any, part: str) -> float:
    squares = [float(_grad(p).norm()) ** 2 for name, p in model.named_parameters() if part in name]
    return float(sum(squares) ** 0.5)


def _saved_bytes(model: Any) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass, parameters left out."""
    import torch

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = _loss(model)
        total = sum(kept.values())
        loss.backward()
    return total
