"""Write an adapter's files for an engine, read them back and compare them with what PEFT computes.

:func:`write` imports torch: pages ask for it in a worker process.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import yaml

from peft_lab.core.errors import BadInput, UnknownName, in_short
from peft_lab.models.assets.fetching import sha256
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import fitting_shapes
from peft_lab.models.loading import load_base, no_pickles, weights_of
from peft_lab.models.shapes import ModelEntry
from peft_lab.takeaway.ship import gguf_files, mlx_files
from peft_lab.takeaway.ship.adapter import CONFIG, WEIGHTS, Adapter, of_folder, read
from peft_lab.takeaway.ship.factors import Array, Factors, factors_of
from peft_lab.takeaway.ship.passport import RANKS, Seen, base_of, engines, tied_end

ENGINES = ("peft", "vllm", "sglang", "llama.cpp", "ollama", "mlx")
#: What can be written beside them: the merged model, and the adapter as LoRA.
FORMS = (
    "safetensors-float32",
    "safetensors-bfloat16",
    *(f"gguf-{kind}" for kind in gguf_files.TYPES),
    "lora",
)
TARGETS = (*ENGINES, *FORMS)
TOLERANCE = 1e-5  # of a ΔW, relative to its largest entry, where float32 is stored
LORA_RANK = 16  # of a conversion to LoRA
Say = Callable[[str, float], object]
_PORTS = {"vllm": 8000, "sglang": 30000, "llama.cpp": 8080, "safetensors": 8000, "gguf": 8080}


@dataclass(frozen=True)
class Shipped:
    """Files for an engine.

    Attributes:
        files: ``path``, ``bytes`` and ``sha256`` of each. command: starts the engine and asks it once.
        compared: ``tensors`` that were read back and the ``max_difference`` of an entry. Of a conversion to LoRA also
            ``lost``: the share of ‖ΔW‖² that its rank leaves out.
    """

    files: tuple[Mapping[str, Any], ...]
    command: str
    compared: Mapping[str, float]


@dataclass(frozen=True)
class Packed:
    """An engine's files in a zip, with what was compared."""

    content: bytes
    compared: Mapping[str, float]


def packed(place: str, base: str, engine: str) -> Packed:
    """Write the files of the adapter in a folder into a zip, in a page's worker. Raises what :func:`write` raises."""
    with tempfile.TemporaryDirectory() as folder:
        made = write(of_folder(Path(place)), base, engine, Path(folder) / "files")
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in made.files:
                archive.write(one["path"], Path(one["path"]).name)
    return Packed(content.getvalue(), made.compared)


def write(
    adapter: Adapter, base: str, engine: str, out: Path, say: Say = lambda what, share: None
) -> Shipped:
    """Write the files that an engine needs into a new folder.

    Args:
        base: a catalogue name, a Hugging Face id or a folder; empty for the one that the adapter names.
        engine: one of :data:`ENGINES` or :data:`FORMS`. say: is told what is being done, and the share that is.

    Raises:
        BadInput: the engine's format cannot hold this adapter, with the reason; or what was read back differs.
        AssetError: the base's weights are needed and were not fetched.
    """
    if engine not in TARGETS:
        raise UnknownName("engine", engine, TARGETS, "to")
    entry = base_of(adapter, base)
    if entry is None:
        raise BadInput("The base that the adapter names is not known here. Name a model or a folder.", "base")
    known, kind = engines()[engine].models if engine in ENGINES else (), entry.config.get("model_type")
    if known and kind not in known:
        raise BadInput(f"{engines()[engine].title} takes no adapters of models of type '{kind}'.", "to")
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"'{out}' is not empty. Name a new folder.", "out")
    out.mkdir(parents=True, exist_ok=True)
    form, _, kind = engine.partition("-")
    say("Writing", 0.0)
    if engine in ("llama.cpp", "mlx"):
        compared = _converted(adapter, entry, engine, out)
    elif engine == "lora":
        compared = _as_lora(adapter, entry.name, out)
    elif engine in ("peft", "vllm", "sglang"):
        for name in (CONFIG, WEIGHTS):
            (out / name).write_bytes(adapter.take(name))
        compared = {"tensors": len(adapter.tensors), "max_difference": 0.0}
    else:
        compared = _merged(adapter, entry.name, form, kind or "f16", out, say)
    most = max(adapter.config.get("r") or 1, *(adapter.config.get("rank_pattern") or {}).values(), 1)
    command = gguf_files.tables()["commands"][form].format(
        base=quote(weights_of(entry.name) if entry.name in ASSETS else entry.name),
        out=quote(str(out)),
        rank=next((rank for rank in RANKS if rank >= most), most),
    )
    if form in _PORTS:
        body = '{"model": "tuned", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}'
        url = f"http://localhost:{_PORTS[form]}/v1/chat/completions"
        command += f"\ncurl {url} -H 'Content-Type: application/json' -d '{body}'"
    files = [
        {"path": str(file), "bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(out.iterdir())
    ]
    return Shipped(tuple(files), command, compared)


def _converted(adapter: Adapter, base: ModelEntry, engine: str, out: Path) -> dict[str, float]:
    """Write the factors for llama.cpp or MLX, and compare every ΔW that is read back."""
    factors, config = factors_of(adapter, dora=engine == "mlx"), base.config
    paths = [one.path for one in factors]
    if (tied := tied_end(Seen(adapter, base))) is not None:
        raise BadInput(
            f"The base's head and embedding are one matrix: LoRA on {tied} alone cannot be stored.", "to"
        )
    if engine == "mlx":
        mlx_files.write_adapter(out, factors, config)
        back = mlx_files.read_adapter(out, paths, config)
    else:
        file = out / "adapter.gguf"
        gguf_files.write_adapter(file, factors, float(adapter.config["lora_alpha"]), config)
        back = gguf_files.read_adapter(file, paths, config)
    return same_deltas(factors, back)


def same_deltas(factors: Sequence[Factors], back: Iterable[Array]) -> dict[str, float]:
    """Return how many matrices were read back and their largest difference. Raises BadInput if a ΔW is another."""
    worst = most = 0.0
    for one, delta in zip(factors, back, strict=True):
        worst, most = max(worst, float(np.abs(delta - one.delta).max())), max(most, np.abs(one.delta).max())
    if not worst <= TOLERANCE * most:
        raise BadInput(f"The written files differ from the adapter by up to {worst:.1e}. Do not use them.")
    return {"tensors": 2 * len(factors), "max_difference": worst}


@contextmanager
def tuned(adapter: Adapter, base: str) -> Iterator[tuple[Any, Any]]:
    """Yield the base in float32 with the adapter on it as PEFT loads it, and its tokenizer. Raises BadInput."""
    import torch
    from peft import PeftModel

    loaded = load_base(base, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder, no_pickles(), fitting_shapes():
        for name in (CONFIG, WEIGHTS):
            (Path(folder) / name).write_bytes(adapter.take(name))
        model: Any = PeftModel.from_pretrained(loaded.model, folder)
    with torch.no_grad():
        yield model.eval(), loaded.tokenizer


def _merged(adapter: Adapter, base: str, form: str, kind: str, out: Path, say: Say) -> dict[str, float]:
    """Write the merged model, for Ollama with its Modelfile, and compare each parameter that is read back."""
    import torch

    say("Loading the base", 0.05)
    with tuned(adapter, base) as (model, tokenizer):
        say("Merging", 0.3)
        try:
            merged = model.merge_and_unload(safe_merge=True)
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise BadInput(f"PEFT cannot merge {adapter.type}: {in_short(error)}.", "adapter") from error
        say("Writing, and reading back", 0.5)
        if form != "safetensors":
            compared = gguf_files.write_model(out / "model.gguf", merged, tokenizer, kind)
            if form == "ollama":
                (out / "Modelfile").write_text(modelfile(tokenizer), "utf-8")
            return dict(zip(("tensors", "max_difference"), compared, strict=True))
        wanted = {name: value.clone() for name, value in merged.state_dict().items()}
        merged.to(getattr(torch, kind)).save_pretrained(out)
        tokenizer.save_pretrained(out)
        with no_pickles():
            back = type(merged).from_pretrained(out, dtype=torch.float32).state_dict()
        differences = [float((back[name] - value).abs().max()) for name, value in wanted.items()]
    return {"tensors": len(differences), "max_difference": max(differences)}


def _as_lora(adapter: Adapter, base: str, out: Path) -> dict[str, float]:
    """Write the adapter as LoRA by PEFT's ``save_as_lora``, and compare its ΔW with the adapter's."""
    from peft import save_as_lora
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers.pytorch_utils import Conv1D

    with tuned(adapter, base) as (model, _):
        try:
            save_as_lora(out, model, LORA_RANK)
        except (TypeError, ValueError) as error:
            raise BadInput(f"PEFT cannot convert {adapter.type} to LoRA: {in_short(error)}.") from error
        deltas = {}
        for name, module in model.named_modules():
            if isinstance(module, BaseTunerLayer):
                layer: Any = module
                delta = layer.get_delta_weight("default").float().numpy()
                flipped = isinstance(module.get_base_layer(), Conv1D)
                deltas[name.removeprefix("base_model.model.")] = delta.T if flipped else delta
    rest, whole, worst, factors = 0.0, 0.0, 0.0, factors_of(read(out))
    for one in factors:
        difference = deltas[one.path] - one.delta
        rest += float((difference**2).sum())
        whole += float((deltas[one.path] ** 2).sum())
        worst = max(worst, float(np.abs(difference).max()))
    return {"tensors": 2 * len(factors), "max_difference": worst, "lost": rest / whole if whole else 0.0}


def modelfile(tokenizer: Any) -> str:
    """Return Ollama's Modelfile: template and stops from ``ollama.yaml``, by what the chat template makes of a turn.

    For a template that is not in the table a comment says so; Ollama then guesses from the GGUF file.
    """
    known = yaml.safe_load(Path(__file__).with_name("ollama.yaml").read_text("utf-8"))
    user, system = {"role": "user", "content": "U"}, {"role": "system", "content": "S"}
    lines, stops, lead = ["FROM ./model.gguf"], [tokenizer.eos_token], ("", tokenizer.bos_token or "")

    def made(*turns: Mapping[str, str]) -> str:
        with suppress(ValueError):  # there is no template, or it refuses a system message
            return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True))
        return ""

    both, alone = made(system, user), made(user)
    entry = next((one for one in known if both in {start + one["makes"] for start in lead}), None)
    if entry is None:
        lines.append(
            "# No Go template is known for this model's chat template: check what `ollama show` says."
        )
    else:
        after = entry["makes"].partition("S")[2]
        before = both.removesuffix(f"S{after}")
        if alone.startswith(before) and alone.endswith(after) and len(alone) > len(before) + len(after):
            lines.append(f'SYSTEM """{alone[len(before) : -len(after)]}"""')  # the template's own
        lines += [f"# {entry['source']}", f'TEMPLATE """{entry["template"]}"""']
        stops += entry["stop"]
    return "\n".join([*lines, *(f'PARAMETER stop "{stop}"' for stop in dict.fromkeys(stops) if stop)]) + "\n"
