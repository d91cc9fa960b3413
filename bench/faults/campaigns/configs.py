"""Folders with a hostile config.json, counted by the command line: a sentence or a count, never code of theirs.

Each case runs in a process of its own with limits on time and memory, so that a hang is a figure and not the end of the
campaign. Wrong is also when code of the folder was run, or when the answer is neither a count nor one line.
"""

from __future__ import annotations

import copy
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bench.faults.children import cli, preload
from bench.faults.rows import LIMIT, Outcome, Place, Row

TIMES = 300
MEMORY = 3 * 2**30  # of address space beside what is loaded

_DEEP = "[" * 50_000
VALUES: tuple[Any, ...] = (
    None, True, "", "x", "0", -1, 0, 1, 3, 7, 2**31, 10**9, 10**18, 10**30, 1.5, -0.0, float("nan"), float("inf"),
    [], {}, [1, "a", None], {"a": {"b": []}}, ["\u202e"], "<img src=x>", "a\nb",
)  # fmt: skip
#: Settings that say something to transformers, PEFT or bitsandbytes besides what an architecture has.
SPECIAL: tuple[dict[str, Any], ...] = (
    {"pad_token_id": 10**9},
    {"pad_token_id": -5},
    {"_attn_implementation": "flash_attention_2"},
    {"attn_implementation": "flash_attention_3"},
    {"_attn_implementation": "kernels-community/evil:run"},
    {"_attn_implementation": {"": "nonsense"}},
    {"experts_implementation": "kernels-community/evil:run"},
    {"_experts_implementation": "nonsense"},
    {
        "auto_map": {
            "AutoConfig": "evil.Config",
            "AutoModel": "evil.Model",
            "AutoModelForCausalLM": "evil.Model",
        }
    },
    {"auto_map": {"AutoConfig": "someone/else--evil.Config"}, "model_type": "evil"},
    {"auto_map": 3},
    {"auto_map": {"AutoConfig": None}},
    {"custom_pipelines": {"text-generation": {"impl": "evil.Pipe"}}},
    {"model_type": "made-up"},
    {"model_type": 7},
    {"model_type": None},
    {"model_type": ["llama"]},
    {"model_type": "../../evil"},
    {"model_type": "x" * 5000},
    {"model_type": "vit"},
    {"model_type": "whisper"},
    {"model_type": "mamba"},
    {"model_type": "rwkv"},
    {"model_type": "encoder-decoder"},
    {"model_type": "rag"},
    {"architectures": 3},
    {"architectures": [None]},
    {"architectures": ["evil.Model"]},
    {"architectures": []},
    {"is_encoder_decoder": True},
    {"is_encoder_decoder": "yes"},
    {"is_decoder": True, "add_cross_attention": True},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"quantization_config": {"quant_method": "made-up"}},
    {"quantization_config": 3},
    {"dtype": "nonsense"},
    {"torch_dtype": "os.system"},
    {"torch_dtype": 3},
    {"num_labels": 10**9},
    {"num_labels": -1},
    {"id2label": 3},
    {"id2label": {"a": "b"}},
    {"label2id": []},
    {"problem_type": "nonsense"},
    {"rope_scaling": {"type": "made-up", "factor": "x"}},
    {"rope_parameters": {"rope_type": "yarn"}},
    {"rope_scaling": 3},
    {"rope_theta": 0},
    {"head_dim": 0},
    {"num_key_value_heads": 0},
    {"num_key_value_heads": 5},
    {"num_attention_heads": 0},
    {"num_attention_heads": 7},
    {"num_hidden_layers": 999, "n_layer": 999, "num_layers": 999},
    {"num_hidden_layers": True},
    {"layer_types": ["made-up"]},
    {"layer_types": []},
    {"hidden_act": "made-up", "activation_function": "made-up"},
    {"hidden_size": 10**18, "n_embd": 10**18, "d_model": 10**18},
    {"hidden_size": 10**6, "n_embd": 10**6, "d_model": 10**6},
    {"vocab_size": 10**18},
    {"intermediate_size": 10**18, "d_ff": 10**18},
    {"max_position_embeddings": 10**18, "n_positions": 10**18},
    {"max_position_embeddings": 10**9, "n_positions": 10**9},
    {"num_local_experts": 10**6, "model_type": "mixtral"},
    {"num_experts": 10**7, "model_type": "qwen3_moe"},
    {"n_routed_experts": 10**7, "model_type": "deepseek_v3"},
    {"text_config": {"model_type": "llama"}},
    {"text_config": 3},
    {"sub_configs": {"a": 1}},
    {"tie_word_embeddings": "no"},
    {"pruned_heads": {"0": [99]}},
    {"chunk_size_feed_forward": 10**9},
    {"return_dict": 3, "use_cache": "x", "output_attentions": True},
    {"torchscript": True},
    {"transformers_version": [3]},
    {"_name_or_path": "http://foreign.invalid/x"},
    {"_commit_hash": 3},
    {"configuration_files": ["config.4.0.0.json", "../../evil"]},
    {"base_model_tp_plan": 3},
    {"gguf_file": "evil.gguf"},
    {"generation_config": {"x": 1}, "temperature": "hot", "max_length": -1},
)


def _texts() -> Iterator[tuple[str, bytes | str]]:
    """Whole files that are no config."""
    yield "empty", b""
    yield "blank", b"  \n"
    yield "a list", b"[1, 2]"
    yield "a number", b"3"
    yield "null", b"null"
    yield "half an object", b'{"model_type": "llama", '
    yield "no UTF-8", b'{"model_type": "\xff\xfe"}'
    yield "UTF-16", '{"model_type": "llama"}'.encode("utf-16")
    yield "a byte order mark", b'\xef\xbb\xbf{"model_type": "llama"}'
    yield "NUL bytes", b"\0" * 1000
    yield "deep brackets", _DEEP.encode()
    yield "deep braces", b'{"a":' * 50_000
    yield "deep and valid", b'{"model_type": "llama", "x": ' + b"[" * 900 + b"]" * 900 + b"}"
    yield "a long number", b'{"model_type": "llama", "hidden_size": ' + b"9" * 5000 + b"}"
    yield "20 MB", b'{"model_type": "llama", "x": "' + b"x" * 20_000_000 + b'"}'
    yield "twice the same key", b'{"model_type": "llama", "model_type": "bert"}'
    yield "many keys", json.dumps({"model_type": "llama", **{f"k{n}": n for n in range(50_000)}}).encode()
    yield (
        "keys that are methods",
        json.dumps(
            {"model_type": "llama", "to_dict": 3, "get_text_config": 3, "__class__": 3, "from_dict": 1}
        ).encode(),
    )
    yield "missing", "missing"
    yield "a folder", "folder"
    yield "a pipe", "pipe"
    yield "a link to itself", "loop"
    yield "a link to /dev/zero", "/dev/zero"


def cases(amount: int = TIMES, seed: int = 0) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """What it is, and what puts it into an empty folder. The listed ones first, then random changes of real configs."""
    from peft_lab.models.catalogue import catalogue

    listed = [*_listed()]
    yield from listed[:amount]
    rng = random.Random(seed)
    real = [dict(entry.config) for entry in catalogue().values()]
    for _ in range(amount - len(listed)):
        config = copy.deepcopy(rng.choice(real))
        said = []
        for _ in range(rng.choice((1, 1, 2, 4))):
            key = rng.choice([*config])
            if rng.random() < 0.25:
                del config[key]
                said.append(f"no {key}")
            else:
                config[key] = rng.choice(VALUES)
                said.append(f"{key}={config[key]!r:.40}")
        yield f"{config.get('model_type')!r:.20}: {', '.join(said)}", _config(config)


def _listed() -> Iterator[tuple[str, Callable[[Path], None]]]:
    small = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
    }  # fmt: skip
    for change in SPECIAL:
        yield f"{change!r:.80}", _config({**small, **change})
    for what, content in _texts():
        yield f"config.json: {what}", _content(content)


def _config(config: dict[str, Any]) -> Callable[[Path], None]:
    return _content(json.dumps(config).encode())


def _content(content: bytes | str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        # what runs this code leaves a trace
        (folder / "evil.py").write_text(
            f"open({str(folder / 'ran')!r}, 'w').close()\nclass Config: pass\nclass Model: pass\n"
        )
        file = folder / "config.json"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content == "folder":
            file.mkdir()
        elif content == "pipe":
            os.mkfifo(file)
        elif content == "loop":
            file.symlink_to(file)
        elif content != "missing":
            file.symlink_to(content)

    return put


def outcomes(amount: int, first: int = 0, seed: int = 0) -> Iterator[tuple[str, Outcome]]:
    """``count -m FOLDER`` over so many cases from the first on, methods in turn: what it is, and what became of it."""
    from peft_lab.methods import all_methods

    preload()
    methods = tuple(all_methods())
    with tempfile.TemporaryDirectory() as place:
        for number, (what, put) in islice(enumerate(cases(first + amount, seed)), first, None):
            folder = Path(place) / str(number)
            folder.mkdir()
            put(folder)
            method = methods[number % len(methods)]
            found = cli(["count", "-m", str(folder), "--method", method, "--json"], LIMIT, MEMORY)
            if (folder / "ran").exists():
                found.faults.append("code of the folder was run")
            yield f"{what} with {method}", found


def run(place: Place, times: int) -> Iterator[Row]:
    """One row."""
    yield Row("hostile config.json of a model's folder").take(
        place.in_time(outcomes(times)), "counted, or refused in one line; none of their code was run"
    )
