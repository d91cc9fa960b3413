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
from peft_lab.advise.plans import configs, steps
from peft_lab.advise.plans.configs import ABOUT, layer_class
from peft_lab.advise.plans.steps import course
from peft_lab.advise.plans.wanted import NAME, PlanFacts, gather_facts
from peft_lab.advise.recipes.recipe import RecipeSetting
from peft_lab.core.errors import Unsupported
from peft_lab.engine.step import OPTIMIZERS
from peft_lab.methods import get_method
from peft_lab.models.catalogue import resolve
from peft_lab.takeaway import ranks
from tests import forked
from tests.waits import SECONDS
from tools import ports

STEP = re.compile(r"step +\d+ of \d+ +loss ([\d.]+)")
#: How far float32 sums in another order may move a loss.
CLOSE = 2e-5
#: Muon turns each update in bfloat16, which makes more of a difference in the last digits of a gradient.
MUON_CLOSE = 2e-3


SAID = {"epochs": 1, "warmup": 0.1, "schedule": "cosine", "steps": 41}


def setting(name: str, value: Any) -> RecipeSetting:
    return RecipeSetting(name, value, None, (), (), "cited", "", "")


def planned(method: str, sharding: str, model: str, **changes: Any) -> PlanFacts:
    """A plan for two ranks with two passes each."""
    entry, spec = resolve(model), get_method(method)
    told = {"r": 4, "lora_dropout": 0.0} if method in ("lora", "qlora") else {}
    said = SAID
    fields: dict[str, Any] = {
        "values": spec.require(entry.shape, told), "batch": 2, "seq": 32, "checkpointing": False, "accumulate": 2,
        "learning_rate": 1e-2, "needed_bytes": 1, "memory_bytes": 2, "trainable": 1, "stored_bytes": 1,
        "remembered": "float32" if method == "full" else "bfloat16", "sharding": sharding, "devices": 2,
        "settings": {name: setting(name, value) for name, value in said.items()},
    }  # fmt: skip
    return gather_facts(entry, method, StepPlan(**{**fields, **changes}), "sft")


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


@pytest.mark.further
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("method", "sharding", "checkpointing", "loss", "optimizer"),
    [
        ("lora", "fsdp2", False, "whole", "adamw"),
        ("full", "fsdp2", True, "whole", "adamw"),
        ("qlora", "ddp", True, "chunked", "adamw"),
        ("qlora", "fsdp2", False, "whole", "adamw"),
        ("lora", "fsdp2", True, "chunked", "adamw"),
        ("full", "fsdp2", False, "whole", "sgd"),
        ("full", "ddp", False, "whole", "adafactor"),
        ("full", "ddp", False, "whole", "muon"),
        ("lora", "tp", True, "whole", "adamw"),
        ("full", "tp", False, "whole", "adamw"),
    ],
)
def test_two_processes_learn_what_one_does(
    method: str,
    sharding: str,
    checkpointing: bool,
    loss: str,
    optimizer: str,
    tiny: dict[str, str],
    rows_file: Path,
    tmp_path: Path,
) -> None:
    how = {"checkpointing": checkpointing, "loss": loss, "optimizer": optimizer}
    if sharding == "tp":
        how["accumulate"] = 4  # all ranks read the same rows, so that as many passes are twice as many
    text = steps.script(planned(method, sharding, tiny["causal-lm"], **how))
    assert ("\nwithout_logits(model)\n" in text) == (loss == "chunked")
    alone = run(text, tmp_path, rows_file, 1)
    shared = run(text, tmp_path, rows_file, 2, torchrun=(method, sharding) == ("lora", "fsdp2"))
    assert len(alone) == 3 and alone[-1] != alone[0]
    assert shared == pytest.approx(alone, abs=MUON_CLOSE if optimizer == "muon" else CLOSE)
    saved = {file.name for file in (tmp_path / "out-2").iterdir()}
    assert saved & {"adapter_model.safetensors", "model.safetensors"}


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("method", "sharding", "optimizer"),
    [
        ("lora", "ddp", "adamw"),
        ("full", "fsdp2", "adamw"),
        ("full", "ddp", "muon"),
        ("full", "ddp", "adafactor"),
        ("lora", "none", "lorafa"),
        ("lora", "tp", "adamw"),
        ("full", "tp", "adamw"),
    ],
)
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(
    method: str, sharding: str, optimizer: str, tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    ranks = 1 if sharding == "none" else 2
    entry, spec = resolve(tiny["causal-lm"]), get_method(method)
    told = {"r": 4, "lora_dropout": 0.3} if method == "lora" else {}  # random numbers are drawn in every step
    said = {"epochs": 2, "warmup": 0.1, "schedule": "cosine"}
    settings = {name: setting(name, value) for name, value in said.items()}
    text = steps.script(
        planned(
            method, sharding, tiny["causal-lm"], values=spec.require(entry.shape, told), settings=settings,
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


@pytest.mark.slow
@pytest.mark.further
def test_a_checkpoint_of_other_rows_is_not_gone_on_from(
    tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    text = steps.script(planned("lora", "none", tiny["causal-lm"], devices=1))
    after = "        keep(CHECKPOINT, state, DEVICE, RANK, WORLD)\n"
    dies = text.replace(after, f"{after}        os._exit(9)\n")
    assert dies != text
    with pytest.raises(AssertionError):
        run(dies, tmp_path, rows_file, 1)
    other = tmp_path / "other.jsonl"
    other.write_text(rows_file.read_text("utf-8").replace("answer", "reply"), "utf-8")
    with pytest.raises(AssertionError, match="rows, settings"):
        run(text, tmp_path, other, 1)


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("method", "sharding", "checkpointing", "loss"),
    [("lora", "ddp", False, "whole"), ("lora", "fsdp2", True, "chunked"), ("full", "fsdp2", False, "whole")],
)
def test_packed_rows_are_learned_alike_by_one_process_and_two(
    method: str,
    sharding: str,
    checkpointing: bool,
    loss: str,
    tiny: dict[str, str],
    rows_file: Path,
    tmp_path: Path,
) -> None:
    how: dict[str, Any] = {"checkpointing": checkpointing, "loss": loss, "packed": True, "seq": 96}
    how["settings"] = {name: setting(name, value) for name, value in {**SAID, "epochs": 4}.items()}
    facts = planned(method, sharding, tiny["causal-lm"], batch=1, **how)
    text = steps.script(facts)
    alone, shared = run(text, tmp_path, rows_file, 1), run(text, tmp_path, rows_file, 2)
    assert shared == pytest.approx(alone, abs=CLOSE) and alone[-1] < alone[0]
    packs = printed_packs(tmp_path)
    assert packs < 23 / 2 and len(alone) == course(24, 4, 1, 2, 2, packs).updates


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("loss", ["whole", "chunked"])
def test_what_waits_in_main_memory_changes_no_loss(
    loss: str, tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    def losses(offload: bool, ranks: int) -> list[float]:
        facts = planned("lora", "ddp", tiny["causal-lm"], checkpointing=True, offload=offload, loss=loss)
        text = steps.script(facts)
        assert (", offloading(model):" in text) == offload
        return run(text, tmp_path, rows_file, ranks)

    here = losses(False, 1)
    assert losses(True, 1) == here and losses(True, 2) == pytest.approx(here, abs=CLOSE)


def printed_packs(folder: Path) -> int:
    (found,) = re.findall(r"^(\d+) packed rows$", (folder / "printed").read_text("utf-8"), re.MULTILINE)
    return int(found)


@pytest.mark.slow
@pytest.mark.further
def test_an_update_of_all_rows_is_the_same_packed_and_padded(
    tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    def losses(**changes: Any) -> list[float]:
        how: dict[str, Any] = {"devices": 1, "accumulate": 1, "seq": 96, **changes}  # one epoch is one update
        return run(steps.script(planned("lora", "none", tiny["causal-lm"], **how)), tmp_path, rows_file, 1)

    losses(packed=True, batch=1)
    packed, padded = losses(packed=True, batch=printed_packs(tmp_path)), losses(batch=23)
    assert len(packed) == 1 and packed == pytest.approx(padded, abs=CLOSE)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_plan_counts_the_updates_and_looks_that_the_script_makes(
    epochs: int, tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    settings = {name: setting(name, value) for name, value in {**SAID, "epochs": epochs}.items()}
    facts = planned("lora", "none", tiny["causal-lm"], devices=1, batch=1, settings=settings)
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


def test_packed_weights_are_stored_in_the_computing_precision_where_they_are_split(
    tiny: dict[str, str],
) -> None:
    split = steps.script(planned("qlora", "fsdp2", tiny["causal-lm"]))
    whole = steps.script(planned("qlora", "ddp", tiny["causal-lm"]))
    assert "bnb_4bit_quant_storage=DTYPE" in split and "bnb_4bit_quant_storage" not in whole
    assert "fully_shard(part" in split and "fully_shard(part" in whole  # one function for all ways
    assert 'SHARDING = "ddp"' in whole


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


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("causal-lm", {"use_dora": True}),
        ("causal-lm", {"init_lora_weights": "pissa", "bias": "all"}),
        ("seq2seq", {}),
        ("encoder", {}),
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


@pytest.mark.further
@pytest.mark.slow
def test_a_head_that_learns_beside_lora_in_another_precision_is_split(
    tiny: dict[str, str], tmp_path: Path
) -> None:
    """All linear maps of an encoder: one that is in no layer, and the head, would be split together."""
    entry, spec = resolve(tiny["encoder"]), get_method("lora")
    told = spec.require(entry.shape, {"r": 4, "lora_dropout": 0.0, "target_modules": ("all-linear",)})
    text = steps.script(
        replace(planned("lora", "fsdp2", tiny["encoder"], values=told), objective="classification")
    ).replace("else torch.float32", "else torch.bfloat16")
    texts = ({"text": f"word {number}", "label": number % 3} for number in range(24))
    (rows := tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts), "utf-8")
    for folder in (split := tmp_path / "two"), (alone := tmp_path / "one"):
        folder.mkdir()
    many, one = run(text, split, rows, 2), run(text, alone, rows, 1)
    assert len(many) == len(one) > 0
    assert many == pytest.approx(one, abs=0.02)  # as near as bfloat16 sums


@pytest.mark.further
@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.further
def test_lora_fa_learns_on_one_gpu_and_leaves_every_a(
    tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    facts = planned("lora", "none", tiny["causal-lm"], devices=1, optimizer="lorafa")
    text = steps.script(facts)
    losses = run(text, tmp_path, rows_file, 1)
    assert losses[-1] < losses[0]
    learned = load_file(tmp_path / "out-1" / "adapter_model.safetensors")
    started = text.replace("STEPS = max(1,", "STEPS = min(0,")
    assert run(started, tmp_path, rows_file, 1) == []
    before = load_file(tmp_path / "out-1" / "adapter_model.safetensors")
    changed = {name: not before[name].equal(tensor) for name, tensor in learned.items()}
    assert changed and all(moved == ("lora_B" in name) for name, moved in changed.items())


def test_what_is_told_of_held_out_rows_is_what_is_done() -> None:
    """In words, as it is no figure that was found."""
    assert "twenty" in ABOUT[NAME] and ranks.HELD == 1 / 20
    assert "tenth" in ABOUT[NAME] and ranks.PARTS == 10


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


@pytest.mark.further
@pytest.mark.slow
def test_an_encoder_reads_the_prompt_and_never_the_answer(
    tiny: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:
    text = steps.script(planned("lora", "ddp", tiny["seq2seq"]))
    assert "encoded = encode_pairs(" in text and "encode_completions" not in text
    shown = text.replace(
        "\nmodel.train()\n",
        "\nmodel.train()\nprint('reads', {tokenizer.decode(row.ids[: row.prompt]) for row in encoded})\n",
    )
    losses = run(shown, tmp_path, rows_file, 1)
    assert len(losses) == 3 and losses[-1] < losses[0]
    (read,) = re.findall(r"^reads (.*)$", (tmp_path / "printed").read_text("utf-8"), re.MULTILINE)
    assert "qqq" in read and "answer" not in read
