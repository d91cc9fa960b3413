"""Steps of small models are simulated and really run on this processor: both have the same peaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from peft_lab.core import inspector, machine
from peft_lab.engine import account, build, running, step
from peft_lab.engine.account import timeline
from peft_lab.engine.build import Blueprint
from peft_lab.engine.fake import true_entries
from peft_lab.engine.request import StepSetting
from peft_lab.engine.running import Stage
from peft_lab.engine.simulate import simulate_blueprint
from peft_lab.engine.tracker import MemoryRecorder, recording
from peft_lab.models import meta
from peft_lab.runs import admission
from peft_lab.runs.spec import RunRequest
from peft_lab.training.batches import Encoded, Packed, collate_packed, no_cache
from peft_lab.training.optimizers import without_logits
from tests.engine import real, small
from tests.methods.mixtures import CONFIGS
from tests.takeaway.conftest import byte_tokenizer, finish

pytestmark = pytest.mark.filterwarnings("ignore")

# -- A step whose loss is taken in chunks: what is simulated is what the processor takes.

ROWS, LENGTH, VOCABULARY = 2, 512, 16_000


def config() -> Any:
    return AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
    )


def adapter(trained: str) -> Any:
    return LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM") if trained == "lora" else None


def measured(trained: str, chunked: bool) -> int:
    """Most bytes alive in a step, by torch's own profiler."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config())
    if trained == "lora":
        model = get_peft_model(model, adapter(trained))
    if chunked:
        without_logits(model)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, fused=True)

    outputs: list[Any] = [None]

    def step() -> None:
        outputs[0] = model(input_ids=ids, labels=ids)  # what it returned lives on, as in the usual loop
        outputs[0].loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return real.profiled(model, step)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("trained", ["lora", "full"])
def test_simulated_is_measured(trained: str) -> None:
    peaks = {}
    for loss in ("whole", "chunked"):
        blueprint = Blueprint(config(), "causal-lm", adapter(trained), torch.float32)
        peaks[loss] = real.simulated(blueprint, StepSetting(ROWS, LENGTH, device="cpu", loss=loss))
        assert peaks[loss] == pytest.approx(measured(trained, loss == "chunked"), rel=0.005)
    logits = ROWS * LENGTH * VOCABULARY * 4
    assert peaks["whole"] - peaks["chunked"] > 1.5 * logits


# -- Packed rows, CPT's text whose every token is learned, and X-LoRA over adapters that are given by their settings.

KINDS = [1, 2, 2, 2, 3, 3, 4, 4] * 2
MIXED: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"]}


def cpt() -> Any:
    return small.adapter(
        "CPT", cpt_token_ids=list(range(1, 17)), cpt_mask=[1] * 16, cpt_tokens_type_mask=KINDS
    )


def xlora(adapters: dict[str, Any], depth: int) -> Any:
    return small.adapter(
        "XLORA", hidden_size=64, xlora_depth=depth, xlora_size=48, xlora_dropout_p=0.0, adapters=adapters
    )


def random_rows(rows: int, length: int) -> dict[str, Any]:
    ids = torch.randint(20, 600, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids.clone()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma"])
def test_simulated_is_what_a_real_packed_step_takes(kind: str, checkpointing: bool) -> None:
    method = small.adapter("LORA", kind, r=4)
    plan = small.blueprint(kind, 3, method, dtype=torch.float32, checkpointing=checkpointing)
    rows = [Encoded(tuple(range(3, 3 + length)), 1) for length in (40, 24, 30, 34)]
    batch = collate_packed([Packed(tuple(rows[:2])), Packed(tuple(rows[2:]))], 0, "cpu")
    found = real.simulated(plan, StepSetting(2, 64, packed=True, device="cpu"))
    assert found == pytest.approx(real.peak(real.points(plan, batch, no_cache)), rel=0.003)


@pytest.mark.parametrize(("rows", "length", "layers"), [(2, 24, 2), (3, 40, 4)])
def test_simulated_is_what_a_real_step_takes(rows: int, length: int, layers: int) -> None:
    plan = small.blueprint("llama", layers, cpt(), dtype=torch.float32)
    points = real.points(plan, random_rows(rows, length), lambda model: None)
    found = real.simulated(plan, StepSetting(rows, length, device="cpu"))
    assert found == pytest.approx(real.peak(points), rel=0.003)
    assert max(point.parts.get("adapter", 0) for point in points) == 16 * 64 * 4, (
        "the moved tokens, in 32 bits"
    )


@pytest.mark.parametrize("depth", [1, 3])
def test_simulated_is_what_a_real_step_takes_of_mixed_adapters(depth: int, tmp_path: Path) -> None:
    """X-LoRA wants two LoRAs in folders, the simulation their settings."""
    for number in "01":
        base = small.blueprint("llama", 3, None, dtype=torch.float32)
        get_peft_model(real.built(base), LoraConfig(**MIXED)).save_pretrained(str(tmp_path / number))
    ours = small.blueprint("llama", 3, xlora({"0": MIXED, "1": MIXED}, depth), dtype=torch.float32)
    folders = {number: str(tmp_path / number) for number in "01"}
    theirs = small.blueprint("llama", 3, xlora(folders, depth), dtype=torch.float32)
    theirs.config.use_cache = False
    points = real.points(theirs, random_rows(2, 32), lambda model: None)
    assert real.simulated(ours, StepSetting(2, 32, device="cpu")) == pytest.approx(
        real.peak(points), rel=0.003
    )


def test_a_few_layers_show_all_of_them() -> None:
    """Unrolled and run at full depth a model has the same peak."""
    deep = small.blueprint("llama", 7, cpt())
    trace, _, unrolled = running.run(deep, StepSetting(2, 16))
    whole, _ = running._run_at(deep, StepSetting(2, 16), running.two_steps, 7)
    assert unrolled
    peaks = [real.peak(account.timeline(each)) for each in (trace, whole)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.001)


def test_true_entries_are_those_of_real_masks() -> None:
    """Counted on the masks as PEFT makes them of a batch."""
    kinds = torch.tensor(KINDS)
    text = torch.full((20,), 4 + max(KINDS))
    whole = torch.cat([kinds, text])
    labels = ((whole > 0) & (whole % 4 == 0))[1:]
    known = true_entries(KINDS, 20)
    assert known[1, len(labels)] == known[2, len(labels)] == int(labels.sum())
    assert known[1, 16] == int((kinds % 4 != 0).sum()) and known[2, 20] == 20


# -- Optimizers as they run: a simulated step peaks where a real one does, to the byte.


def _measured(plan: Any, setting: StepSetting) -> tuple[int, int]:
    """The peak of two real steps, and of the optimizer's part of them, in bytes."""
    torch.manual_seed(0)
    model = plan.build().to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.normal_(0, 0.02)
    recorder = MemoryRecorder()
    subject = build.make_subject(model, plan, recorder, plan.depth)
    del model
    optimizer = step.make_optimizer(setting.optimizer, subject.model, False)
    with recording(recorder), step.watching(subject, recorder):
        running.two_steps(Stage(subject, recorder, optimizer, setting))
    return _peaks(timeline(recorder.stop()))


def _peaks(points: Any) -> tuple[int, int]:
    return max(p.nbytes for p in points), max(p.nbytes for p in points if p.phase == "optimizer")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        *((name, adapted) for name in ("adamw", "adafactor", "muon", "sgd") for adapted in (False, True)),
        ("lorafa", True),
    ],
)
def test_a_step_peaks_where_a_real_one_does(name: str, adapted: bool) -> None:
    method = small.adapter("LORA", r=4) if adapted else None
    setting = StepSetting(2, 8, optimizer=name, device="cpu")
    plan = small.blueprint("llama", 7, method, dtype=torch.float32)
    peak, updating = _measured(plan, setting)
    found = simulate_blueprint(plan, setting, "small", "any", works=False)
    assert found.unrolled
    counters = _counters(name, plan)
    assert (found.peak_bytes + counters, _peaks(found.points)[1] + counters) == (
        peak,
        updating,
    )


def _counters(name: str, plan: Any) -> int:
    """Bytes of the counts of steps, one a parameter: a processor's lie where all is, a device's on its host."""
    trained = [(key, one) for key, one in plan.build().named_parameters() if one.requires_grad]
    matrices = [
        key for key, one in trained if one.ndim == 2 and "embed_tokens" not in key and "lm_head" not in key
    ]
    count = {"adamw": len(trained), "adafactor": len(trained), "muon": len(trained) - len(matrices)}
    return 512 * count.get(name, 0)


# -- Mixtures of experts: a step that is measured on real tensors and the same step simulated, in both precisions.

WITHIN = 0.02
NAMES = ("mixtral", "qwen2_moe", "qwen3_moe")
EXPERTS = {"r": 4, "target_parameters": ("experts.gate_up_proj", "experts.down_proj")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import torch
    import transformers

    top, found = tmp_path_factory.mktemp("mixtures"), {}
    for name in NAMES:
        config = meta.make_config({**CONFIGS[name], "vocab_size": 260, "max_position_embeddings": 256})
        torch.manual_seed(1)
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.save_pretrained(top / name)
        byte_tokenizer().save_pretrained(top / name)
        found[name] = str(top / name)
    return found


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "lora on experts", "adapters", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_simulated_is_measured_of_mixtures(
    name: str,
    method: str,
    dtype: str,
    folders: dict[str, str],
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(machine, "compute_dtype", lambda: getattr(torch, dtype))
    monkeypatch.setattr(inspector, "ask", lambda function, *given: function(*given))
    rows = own_home / "rows.jsonl"
    lines = [json.dumps({"prompt": f"say {n} " * 4, "completion": f"it is {n}"}) for n in range(40)]
    rows.parent.mkdir(exist_ok=True)
    rows.write_text("\n".join(lines), "utf-8")
    values = EXPERTS if method == "lora on experts" else {}
    asked = RunRequest(folders[name], method.partition(" ")[0], "own", values=values, own_data=str(rows))
    run = finish(replace(asked, steps=3, batch=8, eval_rows=0, learning_rate=1e-3))
    record = run.record()
    assert record["dtype"] == dtype
    answer = SimpleNamespace(submit=lambda f, *given: SimpleNamespace(result=lambda: f(*given)))
    monkeypatch.setattr(inspector, "get_inspector", lambda *_: answer)
    peak = admission.peak_of_run(record)
    assert peak == pytest.approx(record["memory"]["peak_bytes"], rel=WITHIN)
