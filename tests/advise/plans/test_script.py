"""A plan's script, carried out by two processes and by one: the same losses, however the ranks share the model."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.advise.plan import StepPlan
from peft_lab.advise.plans import configs, ranking, steps
from peft_lab.advise.plans.configs import layer_class
from peft_lab.advise.plans.ranking import Candidate
from peft_lab.advise.plans.steps import course
from peft_lab.advise.plans.wanted import NAME, PlanFacts, Wanted, gather_facts
from peft_lab.advise.recipes.recipe import RecipeSetting
from peft_lab.advise.tree import ADVICE
from peft_lab.core.errors import Unsupported
from peft_lab.engine.step import OPTIMIZERS
from peft_lab.methods import get_method
from peft_lab.models import meta
from peft_lab.models.catalogue import resolve
from peft_lab.runs.events import read_events
from peft_lab.runs.view import Status, view
from peft_lab.takeaway import ranks
from tests import forked
from tests.methods.mixtures import CONFIGS, EXPERTS, entry_of
from tests.prose import says
from tests.takeaway.conftest import byte_tokenizer
from tests.waits import SECONDS, until
from tools import ports

STEP = re.compile(r"step +\d+ of \d+ +loss ([\d.]+)")
#: How far float32 sums in another order may move a loss.
CLOSE = 2e-5
#: Muon turns each update in bfloat16, which makes more of a difference in the last digits of a gradient.
MUON_CLOSE = 2e-3


def settings_of(**changes: Any) -> dict[str, RecipeSetting]:
    said = {"epochs": 1, "warmup": 0.1, "schedule": "cosine", "steps": 41, **changes}
    return {name: RecipeSetting(name, value, None, (), (), "cited", "", "") for name, value in said.items()}


def planned(method: str, sharding: str, model: str, **changes: Any) -> PlanFacts:
    """A plan for two ranks with two passes each."""
    entry, spec = resolve(model), get_method(method)
    told = {"r": 4, "lora_dropout": 0.0} if method in ("lora", "qlora") else {}
    fields: dict[str, Any] = {
        "values": spec.require(entry.shape, told), "batch": 2, "seq": 32, "checkpointing": False, "accumulate": 2,
        "learning_rate": 1e-2, "needed_bytes": 1, "memory_bytes": 2, "trainable": 1, "stored_bytes": 1,
        "remembered": "float32" if method == "full" else "bfloat16", "sharding": sharding, "devices": 2,
        "settings": settings_of(),
    }  # fmt: skip
    return gather_facts(entry, method, StepPlan(**{**fields, **changes}), "sft")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny mixtures by type, and a Llama whose maps have biases, with random weights and a byte-level tokenizer."""
    import torch
    import transformers

    top, found = tmp_path_factory.mktemp("models"), {}
    biased: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    biased |= {"num_key_value_heads": 2, "intermediate_size": 128, "attention_bias": True, "mlp_bias": True}
    small: dict[str, Any] = {"vocab_size": 300, "max_position_embeddings": 256}
    made = {
        name: meta.make_config({**CONFIGS[name], **small}) for name in ("mixtral", "qwen2_moe", "qwen3_moe")
    }
    for name, config in {**made, "biased": transformers.LlamaConfig(**biased, **small)}.items():
        torch.manual_seed(3)
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.save_pretrained(top / name)
        byte_tokenizer().save_pretrained(top / name)
        found[name] = str(top / name)
    return found


def run(text: str, folder: Path, rows: Path, ranks: int, torchrun: bool = False) -> list[float]:
    """The losses that the script prints. ``torchrun``: begun as the script says, in processes of its own."""
    file = folder / NAME
    file.write_text(text, "utf-8")
    args = [str(rows), str(folder / f"out-{ranks}")]
    if torchrun:
        start = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={ranks}",
            "--standalone",
        ]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        call = [*start, str(file), *args]
        done = subprocess.run(
            call, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    else:
        store = ports.meeting()
        agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        meeting = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "WORLD_SIZE": str(ranks),
            **agent,
        }
        each = [{**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
        done = forked.run(file, args, each if ranks > 1 else [{}])
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "printed").write_text(done.stdout, "utf-8")
    return [float(loss) for loss in STEP.findall(done.stdout)]


ONE_RANK = {"accumulate": 4}  # all ranks read the same rows, so that as many passes are twice as many
LONG = {"batch": 1, "seq": 96, "packed": True, "settings": settings_of(epochs=4)}
ALL_EXPERTS = {"r": 4, "lora_dropout": 0.0}  # beside what is advised
#: A model, a method, how it is shared, the method's values, and how the plan differs.
TOGETHER: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("causal-lm", "lora", "fsdp2", {}, {}),
    ("causal-lm", "full", "fsdp2", {}, {"checkpointing": True}),
    ("causal-lm", "qlora", "ddp", {}, {"checkpointing": True, "loss": "chunked"}),
    ("causal-lm", "qlora", "fsdp2", {}, {}),
    ("causal-lm", "lora", "fsdp2", {}, {"checkpointing": True, "loss": "chunked"}),
    ("causal-lm", "full", "fsdp2", {}, {"optimizer": "sgd"}),
    ("causal-lm", "full", "ddp", {}, {"optimizer": "adafactor"}),
    ("causal-lm", "full", "ddp", {}, {"optimizer": "muon"}),
    ("causal-lm", "lora", "ddp", {}, {"checkpointing": True, "offload": True}),
    ("causal-lm", "lora", "ddp", {}, LONG),
    ("causal-lm", "full", "fsdp2", {}, LONG),
    ("causal-lm", "lora", "tp", {}, {"checkpointing": True, **ONE_RANK}),
    ("causal-lm", "full", "tp", {}, {"packed": True, **ONE_RANK}),
    ("causal-lm", "ia3", "tp", {}, {"checkpointing": True, **ONE_RANK}),
    ("biased", "bitfit", "tp", {}, ONE_RANK),
    ("causal-lm", "prompt", "tp", {"num_virtual_tokens": 5}, ONE_RANK),
    ("causal-lm", "ptuning", "tp", {"num_virtual_tokens": 5, "version": "v2"}, ONE_RANK),
    ("causal-lm", "prefix", "tp", {"num_virtual_tokens": 5}, ONE_RANK),
    ("causal-lm", "adapters", "tp", {}, {"checkpointing": True, **ONE_RANK}),
    ("mixtral", "lora", "fsdp2", ALL_EXPERTS, {"checkpointing": True}),
    ("mixtral", "full", "fsdp2", {}, {"checkpointing": True}),
    ("mixtral", "qlora", "fsdp2", ALL_EXPERTS, {"checkpointing": True}),
    ("qwen3_moe", "lora", "ddp", ALL_EXPERTS, {}),
    ("qwen2_moe", "lora", "fsdp2", ALL_EXPERTS, {"checkpointing": True}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "method", "sharding", "told", "changes"),
    [
        pytest.param(*case, marks=pytest.mark.slow if number == 0 else pytest.mark.rest)
        for number, case in enumerate(TOGETHER)
    ],
)
def test_two_processes_learn_and_save_what_one_does(
    model: str,
    method: str,
    sharding: str,
    told: dict[str, Any],
    changes: dict[str, Any],
    tiny: dict[str, str],
    folders: dict[str, str],
    rows_file: Path,
    tmp_path: Path,
) -> None:
    from safetensors.torch import load_file

    folder = {**tiny, **folders}[model]
    facts = planned(method, sharding, folder, **changes)
    if told:
        shape = facts.entry.shape
        advised = ADVICE["qlora"].knobs(shape) if told is ALL_EXPERTS else {}
        values = facts.method.require(shape, {**advised, **told})
        facts = planned(method, sharding, folder, **changes, values=values)
    text = steps.script(facts)
    assert ("\nwithout_logits(model)\n" in text) == (changes.get("loss") == "chunked")
    assert (", offloading(model):" in text) == bool(changes.get("offload"))
    assert "target_parameters" in text or told is not ALL_EXPERTS
    alone = run(text, tmp_path, rows_file, 1)
    if changes is LONG:
        packs = printed_packs(tmp_path)
        assert packs < 23 / 2 and len(alone) == course(24, 4, 1, 2, 2, packs).updates
    shared = run(text, tmp_path, rows_file, 2, torchrun=(method, sharding) == ("lora", "fsdp2"))
    assert alone[-1] != alone[0]
    assert shared == pytest.approx(alone, abs=MUON_CLOSE if changes.get("optimizer") == "muon" else CLOSE)
    saved = {file.name for file in (tmp_path / "out-2").iterdir()}
    (name,) = saved & {"adapter_model.safetensors", "model.safetensors"}
    if sharding == "tp":
        one, two = (load_file(tmp_path / f"out-{ranks}" / name) for ranks in (1, 2))
        if method == "full":  # of split matrices the tied head is written beside the embeddings
            assert two.pop("lm_head.weight").equal(two["model.embed_tokens.weight"])
        assert {key: each.shape for key, each in one.items()} == {
            key: each.shape for key, each in two.items()
        }
        off = max(float((two[key] - each).abs().max()) for key, each in one.items())
        assert off < 1e-3  # of rates of 1e-2


@pytest.mark.rest
@pytest.mark.parametrize(
    ("method", "sharding", "optimizer"),
    [
        ("lora", "ddp", "adamw"),
        ("full", "fsdp2", "adamw"),
        ("lora", "none", "lorafa"),
        ("full", "tp", "adamw"),
    ],
)
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(
    method: str, sharding: str, optimizer: str, tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    ranks = 1 if sharding == "none" else 2
    entry, spec = resolve(tiny["causal-lm"]), get_method(method)
    told = {"r": 4, "lora_dropout": 0.3} if method == "lora" else {}  # random numbers are drawn in every step
    text = steps.script(
        planned(
            method, sharding, tiny["causal-lm"], values=spec.require(entry.shape, told), settings=settings_of(epochs=2),
            devices=ranks, optimizer=optimizer, accumulate=4 if sharding == "tp" else 2,
        )
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    unbroken = run(text, whole, rows_file, ranks)
    assert len(unbroken) == 12 // ranks and not (whole / f"out-{ranks}" / "checkpoint.pt").exists()
    dies = text.replace(
        "    keep(CHECKPOINT, state, DEVICE, RANK, WORLD)\n",
        "    keep(CHECKPOINT, state, DEVICE, RANK, WORLD)\n"
        "        if number == 2 and RANK == 0:\n            os.kill(os.getpid(), 9)\n",
    )
    assert dies != text
    with pytest.raises(AssertionError, match="-9"):
        run(dies, broken, rows_file, ranks)
    assert (broken / f"out-{ranks}" / "checkpoint.pt").exists()
    assert run(text, broken, rows_file, ranks) == unbroken[3:]
    ends = [(folder / "printed").read_text("utf-8").splitlines()[-1] for folder in (whole, broken)]
    assert ends[0] == ends[1] and "held-out loss" in ends[0]


def printed_packs(folder: Path) -> int:
    (found,) = re.findall(r"^(\d+) packed rows$", (folder / "printed").read_text("utf-8"), re.MULTILINE)
    return int(found)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_plan_counts_the_updates_and_looks_that_the_script_makes(
    epochs: int, tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    facts = planned(
        "lora", "none", tiny["causal-lm"], devices=1, batch=1, settings=settings_of(epochs=epochs)
    )
    losses = run(steps.script(facts), tmp_path, rows_file, 1)
    made = course(24, epochs, batch=1, devices=1, accumulate=2)
    printed = (tmp_path / "printed").read_text("utf-8")
    assert len(losses) == made.updates and printed.count("held-out loss") == made.looks


def test_a_models_name_with_line_breaks_adds_no_line_of_code(tiny: dict[str, str]) -> None:
    """A folder's name is anybody's."""
    facts = planned("lora", "none", tiny["causal-lm"], devices=1)
    named = replace(facts, entry=replace(facts.entry, title='a\n"""\nimport evil\n# %% b\nimport evil'))
    trees = [ast.parse(steps.script(one)) for one in (facts, named)]
    assert (
        ast.dump(trees[1]).count("evil") == ast.dump(trees[1].body[0]).count("evil") == 2
    )  # in the docstring
    assert len(trees[0].body) == len(trees[1].body)


@pytest.mark.parametrize(
    ("method", "sharding", "alone"),
    [
        ("lora", "fsdp2", True),
        ("full", "fsdp2+offload", True),
        ("qlora", "fsdp2", False),
        ("lora", "ddp", False),
    ],
)
def test_one_rank_loads_what_is_split_and_can_be_built_without_weights(
    method: str, sharding: str, alone: bool, tiny: dict[str, str]
) -> None:
    text = steps.script(planned(method, sharding, tiny["causal-lm"]))
    assert (".from_config(AutoConfig.from_pretrained(MODEL), dtype=" in text) == alone
    assert (", alone=True)\n" in text) == alone
    assert ("first rank loads" in text) == alone


@pytest.mark.rest
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("causal-lm", {"use_dora": True, "init_lora_weights": "pissa", "bias": "all"}),
        ("encoder", {"target_modules": ("all-linear",)}),
    ],
)
def test_ranks_that_are_sent_a_model_hold_what_they_would_have_loaded(
    kind: str, values: dict[str, Any], tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    """Every shard and buffer to the last bit, in its precision, with the same ties; losses to the last digit."""
    entry, spec = resolve(tiny[kind]), get_method("lora")
    told = spec.require(entry.shape, {"r": 4, "lora_dropout": 0.0, **values})
    objective = "classification" if kind == "encoder" else "sft"
    text = steps.script(replace(planned("lora", "fsdp2", tiny[kind], values=told), objective=objective))
    text = text.replace("{losses[-1]:.6f}", "{losses[-1]!r}").replace(
        "\nmodel.train()\n",
        "\nmodel.train()\nfor name, one in (*model.named_parameters(remove_duplicate=False), *model.named_buffers()):\n"
        "    own = one.to_local() if hasattr(one, 'to_local') else one\n"
        "    print('holds', RANK, name, one.dtype, own.is_meta, *own.double().flatten().tolist())\n",
    )
    each = text.replace("RANK == 0 else torch.device('meta')", "True else torch.device('meta')")
    each = each.replace("    if RANK == 0:\n        model = Auto", "    if True:\n        model = Auto")
    each = each.replace(", alone=True)", ")")
    if kind == "encoder":
        texts = ({"text": f"word {number}", "label": number % 3} for number in range(24))
        rows_file = tmp_path / "texts.jsonl"
        rows_file.write_text("".join(json.dumps(row) + "\n" for row in texts), "utf-8")
    held = list[list[str]]()
    for way in (text, each):
        (folder := tmp_path / str(len(held))).mkdir()
        losses = run(way, folder, rows_file, 2)
        lines = (folder / "printed").read_text("utf-8").splitlines()
        held.append([*sorted(line for line in lines if line.startswith("holds")), *map(str, losses)])
    assert held[0] == held[1] and len(held[0]) > 50


@pytest.mark.rest
def test_a_rank_that_is_sent_its_shards_never_holds_a_whole_model(
    tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    """Kept in bfloat16 and trained in float32, so that what is loaded is a copy and not the file."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
    shape |= {"vocab_size": 300, "num_attention_heads": 8, "num_key_value_heads": 4}
    large = LlamaForCausalLM(LlamaConfig(**shape)).bfloat16()
    whole = 4 * large.num_parameters()
    large.save_pretrained(tmp_path / "large")
    AutoTokenizer.from_pretrained(tiny["causal-lm"]).save_pretrained(tmp_path / "large")
    told = "print('most', RANK, *[line.split()[1] for line in open('/proc/self/status') if 'HWM' in line])\n"
    text = steps.script(planned("lora", "fsdp2", str(tmp_path / "large")))
    seed = "set_seed(SEED)\nwith nullcontext()"
    assert seed in text
    text = text.replace(seed, told + seed).replace(", alone=True)\n", f", alone=True)\n{told}os._exit(0)\n")
    assert run(text, tmp_path, rows_file, 2) == []
    grown = {}
    for rank in "01":
        before, after = re.findall(rf"^most {rank} (\d+)$", (tmp_path / "printed").read_text("utf-8"), re.M)
        grown[rank] = (int(after) - int(before)) * 1024 / whole
    # both import something meanwhile; where each loads, they take the same
    assert grown["0"] > grown["1"] + 0.4, grown


@pytest.mark.parametrize(
    ("method", "sharding", "changes", "reason"),
    [
        ("lora", "ddp", {"dtype": "float16"}, "losses need scaling"),
        ("full", "fsdp2", {"optimizer": "adamw8bit"}, "bitsandbytes', whose optimizers"),
        ("adapters", "fsdp2", {}, "PEFT.*Adapters"),
        ("full", "fsdp2", {"optimizer": "adafactor"}, "squares a norm"),
        ("lora", "fsdp2+offload", {"optimizer": "muon"}, "whole matrices"),
        ("lora", "ddp", {"optimizer": "lorafa"}, "DDP waits"),
        ("qlora", "tp", {}, "quantised"),
        ("lora", "tp", {"devices": 5}, "5 devices"),
        ("full", "tp", {"optimizer": "adamw8bit"}, "AdamW and SGD"),
    ],
)
def test_what_no_script_does_says_why(
    method: str, sharding: str, changes: dict[str, Any], reason: str, tiny: dict[str, str]
) -> None:
    facts = planned(method, sharding, tiny["causal-lm"], **changes)
    with pytest.raises(Unsupported, match=reason):
        steps.script(facts)


@pytest.mark.parametrize(
    ("device", "sharding", "met"),
    [
        ("cpu", "fsdp2+offload", {"cpu"}), ("cuda:1", "ddp", {"cuda"}), ("cuda:1", "fsdp2", {"cuda"}),
        ("cuda:1", "fsdp2+offload", {"cpu", "cuda"}),
    ],
)  # fmt: skip
def test_ranks_meet_wherever_their_gradients_are(
    device: str, sharding: str, met: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offloaded gradients are in main memory, where their norm is taken: NCCL alone has nobody there to sum it up."""
    import torch.distributed as dist

    asked = list[str]()
    monkeypatch.setattr(dist, "init_process_group", lambda met, **_: asked.append(met))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ranks.begin(device, sharding) == (1, 2)
    backends = dist.BackendConfig(dist.Backend(asked[0])).get_device_backend_map()
    assert met <= set(backends)
    assert backends.get("cuda", "nccl") in ("nccl", "gloo") and backends.get("cpu", "gloo") == "gloo"
    assert (backends.get("cuda") == "nccl") == (device != "cpu")


@pytest.mark.parametrize(
    ("method", "sharding"), [("lora", "fsdp2"), ("qlora", "ddp"), ("full", "fsdp2+offload")]
)
def test_accelerate_reads_its_config(
    method: str, sharding: str, tiny: dict[str, str], tmp_path: Path
) -> None:
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    facts = planned(method, sharding, tiny["causal-lm"])
    layer = layer_class(facts.entry)
    assert layer == "LlamaDecoderLayer"
    file = tmp_path / "accelerate.yaml"
    file.write_text(configs.accelerate(facts, layer), "utf-8")
    read = ClusterConfig.from_yaml_file(str(file))
    assert read.num_processes == 2
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(read.fsdp_config or {}) <= known
    assert ("fsdp_version" in (read.fsdp_config or {})) == sharding.startswith("fsdp2")
    assert (read.fsdp_config or {}).get("fsdp_offload_params", False) == sharding.endswith("offload")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_script_installs_and_makes_what_the_plan_says(optimizer: str, tiny: dict[str, str]) -> None:
    facts = planned("lora", "none", tiny["causal-lm"], devices=1, optimizer=optimizer)
    text = steps.script(facts)
    compile(text, NAME, "exec")
    assert f"'torch>={'2.9' if optimizer == 'muon' else '2.7'}'" in configs.skypilot(facts, "l4")
    chunked = planned("lora", "none", tiny["causal-lm"], devices=1, optimizer=optimizer, loss="chunked")
    assert "'torch>=2.13'" in configs.skypilot(chunked, "l4")
    needs = optimizer in ("adamw8bit", "paged_adamw8bit", "paged_adamw")
    assert ("bitsandbytes" in text) == needs == ("bitsandbytes" in configs.skypilot(facts, "l4"))
    assert ("class MuonBesideAdamW" in text) == (optimizer == "muon")
    others = configs.axolotl_refusal(facts)
    assert bool(others) == (optimizer in ("adafactor", "muon", "lorafa"))


ASKED = {"model": "smollm2-135m", "gpu": "rtx-4090", "rows": 300, "row_tokens": 60, "seq": 64}


def tried(devices: int, **more: Any) -> list[Candidate]:
    found = ranking.candidates(Wanted(**ASKED, devices=devices, **more).check())  # type: ignore[arg-type]
    return [one for one in found if one.sharding == "tp"]


def test_it_is_tried_once_where_it_cannot_be_to_say_why() -> None:
    assert not tried(1)
    every = [("full", True), ("full", False), ("lora", True), ("lora", False), ("qlora", True)]
    assert [(one.method, one.checkpointing) for one in tried(3)] == every
    once = [("full", True), ("lora", True), ("qlora", True)]
    assert [(one.method, one.checkpointing) for one in tried(2)] == once
    further = tried(3, also="ia3,prompt")
    assert [(one.method, one.checkpointing) for one in further if one.method in ("ia3", "prompt")] == [
        ("ia3", True), ("ia3", False), ("prompt", True), ("prompt", False)
    ]  # fmt: skip
    assert [(one.method, one.checkpointing) for one in tried(3, packed=290)] == every
    assert says(tried(3)[2].title, "LoRA", "tensor parallel", "checkpointed")


def test_all_ranks_of_a_script_read_the_same_rows(tiny: dict[str, str]) -> None:
    text = steps.script(planned("lora", "tp", tiny["causal-lm"]))
    other = steps.script(planned("lora", "fsdp2", tiny["causal-lm"]))
    assert "UPDATE = 4 " in text and "UPDATE = 8 " in other  # two rows at once, two passes, two ranks
    assert (
        text.count("shares(chosen, 0, 1, BATCH)") == 1
        and other.count("shares(chosen, RANK, WORLD, BATCH)") == 1
    )
    assert "predicted(parts, 1)" in text and "update_loss(model, parts, tokens, 1)" in text
    assert "set_seed(SEED)  # of dropout" in text and "set_seed(SEED + RANK)" in other
    assert "def split_matrices" in text and "def split_matrices" not in other
    assert "<" not in "".join(line for line in text.splitlines() if "shares(" in line)
    compile(text, "train.py", "exec")
    facts = planned("lora", "tp", tiny["causal-lm"])
    assert "10140" in configs.axolotl_refusal(facts)
    assert "distributed_type: MULTI_GPU" in configs.accelerate(facts, "")


@pytest.mark.parametrize("name", EXPERTS)
def test_every_linear_map_is_all_but_the_router_and_the_stacks_as_parameters(name: str) -> None:
    shape = entry_of(name).shape
    stacks = {group.path for group in shape.bare if group.stacked > 1}
    routers = {mixture.router for mixture in shape.mixtures}
    for advice in (one for one in ADVICE.values() if one.method in ("lora", "qlora")):
        if advice.values.get("target_modules", ("all-linear",)) != ("all-linear",):
            continue
        if advice.method == "lora" and "target_modules" not in advice.values:
            continue
        spec = get_method(advice.method)
        values = spec.require(shape, advice.knobs(shape))
        adapted = {part.at for part in spec.parts(shape, values) if part.kind == "low_rank"}
        assert stacks and stacks <= adapted, advice.id
        assert not adapted & {path for router in routers for path in (router, f"{router}.weight")}, advice.id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_what_was_made_before_stays_and_what_is_made_again_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    ranks.begin_telling(folder, {"model": "m"}, {"trainable": 3})
    for number in (1, 2, 3):
        ranks.tell(folder, "step", step=number, loss=1.0, lr=0.1, tokens=4, seconds=0.1)
    ranks.tell(folder, "failed", message="gone")
    ranks.begin_telling(folder, {"model": "m"}, {"trainable": 3}, first=2)
    found = read_events(folder / "events.jsonl")
    assert [event["step"] for event in found if event["type"] == "step"] == [1, 2]
    seen = view(found, 4, "")
    assert (seen.status, seen.step, seen.ready["trainable"]) == (Status.RUNNING, 2, 3)
    until((folder / "beat").exists)


def test_an_error_that_ends_the_script_ends_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    ranks.begin_telling(folder, {}, {})
    sys.excepthook(RuntimeError, RuntimeError("out of memory"), None)
    seen = view(read_events(folder / "events.jsonl"), 4, "")
    assert (seen.status, seen.message) == (Status.FAILED, "RuntimeError: out of memory")


@pytest.mark.rest
@pytest.mark.parametrize(("method", "sharding"), [("lora", "fsdp2")])
def test_accelerate_launches_two_processes_that_are_followed_and_adopted(
    method: str, sharding: str, tiny: dict[str, str], rows_file: Path, tmp_path: Path, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    facts = planned(method, sharding, tiny["causal-lm"])
    (tmp_path / NAME).write_text(steps.script(facts), "utf-8")
    layer = layer_class(facts.entry) if facts.sharded else ""
    (tmp_path / "accelerate.yaml").write_text(configs.accelerate(facts, layer), "utf-8")
    # the config is of GPUs; --cpu has the same processes meet over gloo
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate.yaml", "--cpu",
               "--num_processes", "2", "--main_process_port", "0", NAME, str(rows_file), "out"]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PEFT_LAB_RUN": str(folder)}
    with (tmp_path / "printed").open("w") as output:
        going = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: (folder / "spec.json").exists() or going.poll() is not None)
        assert going.wait(SECONDS) == 0, (tmp_path / "printed").read_text("utf-8")[-3000:]
    finally:
        going.kill()
    printed = [float(loss) for loss in STEP.findall((tmp_path / "printed").read_text("utf-8"))]
    found = read_events(folder / "events.jsonl")
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    seen = view(found, spec["steps"], "")
    assert len(printed) == 3, "one rank alone prints"
    assert seen.losses == pytest.approx(printed, abs=1e-6)
    assert (seen.status, seen.step) == (Status.DONE, spec["steps"])
    assert seen.tokens_per_second and seen.ready["trainable"]
    assert (folder / "adapter").resolve() == (tmp_path / "out").resolve()
