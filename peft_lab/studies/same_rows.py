"""Answer the same held-out rows with a LoRA adapter beside its base, merged in 16, 8 and 4 bits, and in other engines;
compare the answers token by token, and ΔW with half a step of each precision.

``same_rows.json`` has the recorded answers of one adapter, also of the exhibits (``tools/record_ship.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from peft_lab.core import content, disk
from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.methods import get_method
from peft_lab.methods.lora import recording
from peft_lab.models import quantise
from peft_lab.models.loading import split_text
from peft_lab.models.quantise import INT8, Quantization
from peft_lab.runs import kept, store
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.training.evaluation import Examiner, question
from peft_lab.training.marking import marked
from peft_lab.training.tasks.base import Row

ROWS = 24
SHIPPED = "orders"  # in place of a run: the adapter in the folder ``shipped``
FORMS = {"nf4": Quantization(4, "nf4", False, "bfloat16"), "int8": INT8}


@dataclass(frozen=True)
class Way:
    """A way to use an adapter. ``form``: how the linear maps are stored. ``merged``: whether ΔW is in them. ``engine``:
    by name, if it is not PyTorch."""

    title: str
    form: str = "bf16"
    merged: bool = True
    engine: str = ""


UNMERGED, WHOLE = "unmerged", "f32"
WAYS = {
    UNMERGED: Way("Beside the base, 16 bits", merged=False),
    WHOLE: Way("Beside the base, 32 bits", "f32", merged=False),
    "bf16": Way("Merged in 16 bits"),
    "int8": Way("Merged into int8", "int8"),
    "beside": Way("Beside an NF4 base", "nf4", merged=False),
    "nf4": Way("Merged into NF4", "nf4"),
    "q4_0": Way("Merged, then rounded to q4_0", "q4_0"),
    "llama.cpp": Way("Beside the base in llama.cpp, 32 bits", "f32", merged=False, engine="llama.cpp"),
    "mlx": Way("Beside the base in MLX, 32 bits", "f32", merged=False, engine="mlx"),
    "vllm": Way("Beside the base in vLLM, 32 bits", "f32", merged=False, engine="vllm"),
}


def reference(way: str) -> str:
    """Return the way whose answers one is compared with: beside the base, engines in 32 bits."""
    return WHOLE if WAYS[way].engine else UNMERGED


def ways_here() -> dict[str, Way]:
    """Return the ways that this machine can answer in; engines' answers are recorded (``bench.engines``)."""
    return {name: way for name, way in WAYS.items() if not way.engine}


@dataclass(frozen=True)
class Answered:
    """The answers of an adapter that is used in one way, by row."""

    answers: tuple[str, ...]
    ended: tuple[bool, ...]  # whether each came to its end before the limit
    seconds: float
    # by layer, the share of ΔW's entries below half a step; empty if it is not merged
    lost: tuple[float, ...] = ()


class Difference(NamedTuple):
    """The first token of an answer that differs from another answer's; token and row count from 0."""

    token: int
    row: int
    wanted: str
    written: str


def adapter_of(run: str) -> tuple[RunSpec, Path]:
    """Return the spec and the folder of a run's adapter, or of the shipped one's. Raises RunError if there is no such
    run, or it has no adapter, BadInput if it is no plain LoRA that writes."""
    if run == SHIPPED:
        return RunRequest("smollm2-135m", "lora", "json").complete(), Path(__file__).with_name(
            "shipped"
        ) / run
    found = store.get(run)
    values = found.spec.values
    plain = not values.get("use_dora") and values.get("init_lora_weights") != "pissa"
    if found.spec.method != "lora" or not plain or not found.spec.task_object().writes:
        raise BadInput(
            "Only the run of a plain LoRA on a text-generation task can be shown here. Choose another run.",
            "run",
        )
    return found.spec, kept.kept_adapter(found.folder)


def rows_of(spec: RunSpec) -> Sequence[Row]:
    """Return the held-out rows that every way answers."""
    return spec.task_object().load().test[:ROWS]


def right(rows: Sequence[Row], seen: Answered) -> int:
    """Return how many answers have nothing wrong in them."""
    return sum(not wrong_in(text, row) for text, row in zip(seen.answers, rows, strict=True))


def wrong_in(answer: str, row: Row) -> int:
    """Return how many fields or words of an answer are wrong or missing."""
    found = marked(answer, row.target)
    return max(found.total - found.right, sum(piece.verdict == "wrong" for piece in found.pieces))


def differences(model: str, seen: Answered, reference: Answered) -> list[Difference]:
    """Return where answers differ from others, by the tokens of the model's tokenizer, earliest token first. Raises
    AssetError if the tokenizer has to be fetched first."""
    found = []
    for row, (text, other) in enumerate(zip(seen.answers, reference.answers, strict=True)):
        if text != other:
            pairs = list(zip_longest(split_text(model, other), split_text(model, text), fillvalue=""))
            token = next(n for n, (wanted, written) in enumerate(pairs) if wanted != written)
            found.append(Difference(token, row, *pairs[token]))
    return sorted(found)


@cache
def recorded() -> dict[str, Any]:
    """Return the recorded answers by way and exhibit, as ``apart`` where those of a way differ, and what they depend
    on: ``spec``, ``machine``, ``versions``, ``recorded``; of an engine ``package``, ``load`` and ``recorded``."""
    found = disk.read_json(Path(__file__).with_suffix(".json"))
    answers = {
        name: Answered(**content.read_typed(Answered, one, name)) for name, one in found["answers"].items()
    }
    apart = {way: [Difference(*one) for one in each] for way, each in found["apart"].items()}
    return {**found, "spec": RunSpec.from_dict(found["spec"]), "answers": answers, "apart": apart}


# ----------------------------------------
# The models, and what they write; for the inspector process.


def used(base: Any, folder: Path, way: Way) -> tuple[Any, list[float]]:
    """Return the model that answers, made of ``base``, and the shares of ΔW below half a step."""
    if way.form in FORMS:
        quantise.quantise(base, FORMS[way.form])
    elif way.merged or way.form == "f32":
        base = base.bfloat16() if way.merged else base.float()
    model: Any = get_method("lora").load(base, folder).eval()
    if not way.merged:
        return model, []
    with torch.no_grad():
        lost = lost_shares(model, way.form)
        model = model.merge_and_unload()
        if way.form == "q4_0":
            for name, module in model.named_modules():
                if type(module) is torch.nn.Linear and name != "lm_head":
                    module.weight.copy_(to_q4_0(module.weight))
    return model, lost


def write(model: Any, tokenizer: Any, spec: RunSpec, rows: Sequence[Row]) -> tuple[list[str], list[bool]]:
    """Return the answers to the rows, and whether each came to its end; all rows are one batch."""
    examiner = Examiner(spec.task_object(), tokenizer, spec.max_length, str(model.device))
    with torch.no_grad():
        asked = examiner.prepare([question(row) for row in rows])
        tokens = examiner.write(model, asked, examiner.task.max_new_tokens)
    texts: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts, (tokens == examiner.ends).any(-1).tolist()


# ----------------------------------------
# The step of each precision. Where an entry of ΔW is below half of it, its weight stays at the value it was stored as.


def lost_shares(model: Any, form: str) -> list[float]:
    """Return the share of the entries of a LoRA's ΔW that are below half a step of their weight, for each layer."""
    layers: dict[str, list[torch.Tensor]] = {}
    for path, module in recording.layers(model):
        a, b, scale = recording.change(module, None)
        change = scale * (b @ a)
        below = change.abs() < half_steps(recording.base_weight(module), change, form)
        layers.setdefault(next(filter(str.isdigit, path.split(".")), ""), []).append(below.flatten())
    return [round(float(torch.cat(parts).float().mean()), 4) for parts in layers.values()]


def half_steps(weight: torch.Tensor, change: torch.Tensor, form: str) -> torch.Tensor:
    """Return half the distance from each stored weight to the next value that can be stored, toward ``change``.
    ``weight``, ``change``: of shape (outputs, inputs), float32. Beyond the largest weight of an NF4 block it is 0:
    the block's scale follows the weight."""
    from bitsandbytes.functional import get_4bit_type

    if form == "bf16":
        stored = weight.bfloat16()
        after = torch.nextafter(stored, torch.where(change > 0, torch.inf, -torch.inf).bfloat16())
        return (after.float() - stored.float()).abs() / 2
    blocks = weight.reshape(-1, {"nf4": 64, "q4_0": 32, "int8": weight.shape[1]}[form])  # that share a scale
    scale = blocks.abs().amax(1, keepdim=True)
    if form != "nf4":  # even steps
        return (scale / (2 * {"q4_0": 8, "int8": 127}[form])).expand_as(blocks).reshape(weight.shape)
    codes = get_4bit_type("nf4", device="cpu").sort().values
    nearest = torch.bucketize(blocks / scale, (codes[1:] + codes[:-1]) / 2)
    gaps = torch.nn.functional.pad(codes.diff() / 2, (1, 1))  # below the lowest value, ..., above the highest
    return (gaps[nearest + (change.reshape(blocks.shape) > 0)] * scale).reshape(weight.shape)


def to_q4_0(weight: torch.Tensor) -> torch.Tensor:
    """Return a matrix (outputs, inputs) as llama.cpp's q4_0 stores it, by the ``gguf`` package's quantiser."""
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType.Q4_0
    return torch.from_numpy(quants.dequantize(quants.quantize(weight.float().numpy(), kind), kind))
