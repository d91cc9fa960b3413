"""Build a Llama of four small layers and a smaller BERT for experiments, with random weights; measure what each
way of merging a QLoRA costs in score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft_lab.core.later import torch
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import simulate
from peft_lab.methods.qlora import recording
from peft_lab.runs import course
from peft_lab.runs.spec import RunRequest
from peft_lab.training.step import Masters

SEED = 0
TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 160, "vocab_size": 128, "tie_word_embeddings": False,
}  # fmt: skip
TINY_BERT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 128,
}  # fmt: skip
QUERY_VALUE = ["q_proj", "v_proj"]


def seed() -> None:
    """Set torch's global random seed to :data:`SEED`."""
    torch.manual_seed(SEED)


def tiny() -> Any:
    """Return a new Llama of four layers with random weights, the same at every call."""
    from transformers import LlamaConfig, LlamaForCausalLM

    seed()
    return LlamaForCausalLM(LlamaConfig(**TINY))


def tokens() -> torch.Tensor:
    """Return the one batch of the experiments: token ids of shape (2, 12)."""
    return torch.arange(24).reshape(2, 12) % 100


def lora(base: Any, targets: Sequence[str] = tuple(QUERY_VALUE), start: Any = True) -> Any:
    """Return the base with LoRA of rank 8 added by PEFT. ``targets``: names of the modules that get an adapter.
    ``start``: PEFT's ``init_lora_weights``."""
    from peft import LoraConfig, get_peft_model

    seed()
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=list(targets), init_lora_weights=start
    )
    return get_peft_model(base, config)


def loss(model: Any) -> torch.Tensor:
    """Return the mean cross entropy of the model on :func:`tokens`, a scalar."""
    loss: torch.Tensor = model(tokens(), labels=tokens()).loss
    return loss


def fill(model: Any, part: str) -> None:
    """Fill every parameter whose name contains ``part`` with normal noise of deviation 0.02, in place."""
    seed()
    for name, parameter in model.named_parameters():
        if part in name:
            torch.nn.init.normal_(parameter, std=0.02)


def first(model: Any, part: str) -> str:
    """Return the name of the first parameter that contains ``part``."""
    return next(name for name, _ in model.named_parameters() if part in name)


def trainable(model: Any) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def saved_bytes(model: Any) -> int:
    """Return the bytes of the distinct storages that autograd keeps for the backward pass, without parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(model)
        total = sum(kept.values())
        value.backward()
    return total


# ----------------------------------------
# Small experiments that test a prediction, for the inspector process: plain values in, figures out.


def counted_after_wrapping(contenders: Sequence[Sequence[Any]], quantity: str) -> list[float]:
    """Count each of (model, method, knobs) and return ``quantity`` of its report: ``trainable``, ``percent`` ..."""
    from peft_lab.methods.counting.count import count

    return [float(getattr(count(model, method, values), quantity)) for model, method, values in contenders]


def peaks(contenders: Sequence[Sequence[Any]], batch: int, seq: int) -> list[float]:
    """Return the simulated peak bytes of a training step of each of (model, method, knobs, checkpointing)."""
    setting = StepSetting(batch, seq)
    return [
        float(simulate(StepRequest(model, method, values, setting, checkpointing=checkpointing)).peak_bytes)
        for model, method, values, checkpointing in contenders
    ]


def peak_growth(model: str, method: str, small: int, large: int, seq: int) -> list[float]:
    """Return the ratio of the simulated peaks with ``large`` and ``small`` rows, the method at its defaults."""
    few, many = (peaks([[model, method, {}, False]], batch, seq)[0] for batch in (small, large))
    return [many / few]


def first_gradients() -> list[float]:
    """Return the norms of the gradients of all A and of all B in LoRA's first step."""
    model = lora(tiny())
    loss(model).backward()
    return [
        sum(float(p.grad.norm()) ** 2 for name, p in model.named_parameters() if part in name) ** 0.5
        for part in ("lora_A", "lora_B")
    ]


def _fall(model: Any, rate: float, steps: int) -> float:
    """Return how far the loss falls in some steps of AdamW without weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    start = float(loss(model).detach())
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    return start - float(loss(model).detach())


def trained_from_zero(steps: int) -> list[float]:
    """Return how far the loss falls with B = 0 alone, and with A = B = 0."""
    falls = []
    for zero_a in (False, True):
        model = lora(tiny())
        for name, parameter in model.named_parameters():
            if zero_a and "lora_A" in name:
                torch.nn.init.zeros_(parameter)
        falls.append(_fall(model, 1e-2, steps))
    return falls


def zero_sides(rates: Sequence[float], steps: int, seeds: int) -> list[list[float]]:
    """Return how far the loss falls at the best of some learning rates, for each seed: with B = 0, and with A = 0. The
    other matrix is initialised as PEFT initialises A."""

    def fall(number: int, zero: str, rate: float) -> float:
        model = lora(tiny())
        torch.manual_seed(number)
        for name, parameter in model.named_parameters():
            if zero in name:
                torch.nn.init.zeros_(parameter)
            elif "lora_" in name:
                torch.nn.init.kaiming_uniform_(parameter, a=5**0.5)
        return _fall(model, rate, steps)

    return [
        [max(fall(number, zero, rate) for rate in rates) for number in range(seeds)]
        for zero in ("lora_B", "lora_A")
    ]


def doubled_alpha() -> list[float]:
    """Return the ratio of the norms of the correction at 2α and at α, with the same A and B."""
    model = lora(tiny())
    layer = model.get_submodule(first(model, "lora_A").rsplit(".lora_A", 1)[0])
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    with torch.no_grad():
        before = layer.get_delta_weight("default").norm()
        layer.scale_layer(2.0)
        return [float(layer.get_delta_weight("default").norm() / before)]


def merge_differences() -> list[float]:
    """Return the change of the logits after merging, in percent of their norm, in float32 and in bfloat16."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = lora(tiny().to(dtype))
        fill(model, "lora_B")
        model.eval()
        with torch.no_grad():
            before = model(tokens()).logits.float()
            after = model.merge_and_unload()(tokens()).logits.float()
        found.append(100 * float((after - before).norm() / before.norm()))
    return found


def merge_costs() -> list[float]:
    """Return what merging costs: parameters beyond the base's; change of the logits in float32; their error in
    bfloat16 against the same weights in float32, unmerged and merged. All but the first in percent of the norm."""

    def made(stored: torch.dtype) -> Any:
        model = lora(tiny().to(stored)).eval()
        fill(model, "lora_B")
        return model

    def off(found: Any, right: Any) -> float:
        with torch.no_grad():
            one, other = (model(tokens()).logits.float() for model in (found, right))
        return 100 * float((one - other).norm() / other.norm())

    single, half = torch.float32, torch.bfloat16
    merged, exact = made(half).merge_and_unload(), made(half).float()
    beyond = sum(p.numel() for p in merged.parameters()) - sum(p.numel() for p in tiny().parameters())
    return [
        float(beyond),
        off(made(single).merge_and_unload(), made(single)),
        off(made(half), exact),
        off(merged, exact),
    ]


def merged_into_four_bits() -> list[float]:
    """Return the error of rounding W + ΔW to NF4 again, over ΔW's norm, with normal W and ΔW one percent of it."""
    seed()
    return [four_bit_moves(torch.randn(512, 512) * 0.02)[0]]


def four_bit_moves(weight: torch.Tensor) -> tuple[float, float]:
    """Measure what two ways of merging do to a weight matrix (outputs, inputs); ΔW has rank 8 and 1% of its norm.

    Returns:
        the error of rounding the sum to NF4 again, and the distance from the quantised base to the original weight;
        both relative to the norm of ΔW.
    """
    from bitsandbytes import functional

    weight = weight.detach().float().contiguous()
    stored = functional.dequantize_4bit(*functional.quantize_4bit(weight, quant_type="nf4")).float()
    change = torch.randn(weight.shape[0], 8) @ torch.randn(8, weight.shape[1])
    change *= 0.01 * stored.norm() / change.norm()
    again = functional.dequantize_4bit(*functional.quantize_4bit(stored + change, quant_type="nf4")).float()
    lost = (again - (stored + change)).norm() / change.norm()
    return float(lost), float((weight - stored).norm() / change.norm())


def four_bit_errors() -> list[float]:
    """Return the error of NF4, FP4 and evenly spaced 4-bit integers on normal numbers, in percent; blocks of 64."""
    from bitsandbytes import functional

    seed()
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
    """Return the bytes that autograd keeps for LoRA on q and v, in percent of those for full fine-tuning."""
    full = tiny()
    return [100 * saved_bytes(lora(tiny())) / saved_bytes(full)]


def bias_gradients() -> list[float]:
    """Return the largest gradient entry of the query's, key's and value's biases of a BERT, in float64."""
    from transformers import BertConfig, BertModel

    seed()
    model = BertModel(BertConfig(**TINY_BERT), add_pooling_layer=False).double().eval()
    model(tokens()).last_hidden_state.pow(3).sum().backward()
    named = dict(model.named_parameters())
    return [
        max(float(p.grad.abs().max()) for name, p in named.items() if name.endswith(f"{part}.bias"))
        for part in ("query", "key", "value")
    ]


#: The training: long enough to learn, on the smallest model; other knobs have their defaults.
MERGING_REQUEST = RunRequest(
    model="minilm-l6", method="qlora", task="sentiment", values={"r": 8}, steps=40, eval_rows=500
)
UNMERGED = "unmerged"
#: The ways of merging that are scored; :func:`peft_lab.methods.qlora.recording.ways` defines them.
WAYS_OF_MERGING = ("expanded", "fresh", "rounded again")


@dataclass(frozen=True)
class MergeScores:
    """The scores of merged models, and how far training and rounding moved the weights."""

    # share of right answers on ``rows`` held-out rows, by way; ``base``: the quantised base alone
    scores: dict[str, float]
    rows: int
    correction: float  # norm of all learned corrections over that of the adapted weights
    rounding: float  # the norm of the quantisation error of these weights, over the same
    # lost and shift: for the model's first matrix, as :func:`peft_lab.studies.tiny.four_bit_moves` returns them
    lost: float
    shift: float


def merge_scores() -> MergeScores:
    """Train, merge in every way and evaluate. Takes about a minute on an idle machine. Raises AssetError if weights or
    data must be downloaded first."""
    spec = MERGING_REQUEST.complete()
    ready = course.prepare(spec)
    masters = Masters(ready.model)
    for _ in course.steps(ready, masters, course.optimizer_of(ready, masters)):
        pass
    course.settle(ready, masters)
    examiner = course.examiner(ready)

    def score(model: torch.nn.Module) -> float:
        return examiner.evaluate(model, ready.test).metrics[ready.task.metric]

    def fresh() -> torch.nn.Module:
        return course.fresh_base(spec, ready.task, quantised=False).model

    model = ready.model.eval()
    scores = {UNMERGED: score(model)}
    with torch.no_grad():
        correction, rounding = recording.moved(model, fresh)
        for way, make in recording.ways(model, fresh):
            if way in WAYS_OF_MERGING:
                scores[way] = score(make())
        with model.disable_adapter():  # type: ignore[operator]
            scores["base"] = score(model)
        seed()
        plain = next(module for _, module in fresh().named_modules() if isinstance(module, torch.nn.Linear))
        lost, shift = four_bit_moves(plain.weight)
    return MergeScores(scores, len(ready.test), correction, rounding, lost, shift)
