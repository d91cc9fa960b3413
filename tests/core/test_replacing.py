"""Tripwires: each fails when a library has changed so that what we put in its place is needless or no longer called."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests

import peft_lab
from peft_lab.core import processes
from peft_lab.core.errors import PeftLabError, Replacement
from peft_lab.engine import autocast, fake, kernels, switches
from peft_lab.engine.sharding import simulate
from peft_lab.models import loading
from peft_lab.ui.server import app, sessions
from tests.prose import facts
from tests.ui import late_turn

# mypy: disable-error-code="attr-defined,no-untyped-call,arg-type,index"
# It looks into parts of libraries that have no types and are exported by nobody.


PACKAGE = Path(peft_lab.__file__).parent


class Called(Exception):
    """Raised by what stands in a library's place, to show that the library calls it."""


def _call(*_: Any, **__: Any) -> Any:
    raise Called


def _operations(run: Callable[[], Any]) -> set[str]:
    """Names of the torch operations that a call comes to."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch():
        run()
    return seen


def reached(one: Replacement, run: Callable[[], Any]) -> None:
    """The library calls what stands in the place of its own."""
    with one.by(_call), pytest.raises(Called):
        run()


def named_in(where: Any, *calls: str) -> None:
    """A library's source calls the function by the name at which it is replaced."""
    source = inspect.getsource(where)
    assert all(call in source for call in calls), where


def nowhere(*shape: int, **more: Any) -> torch.Tensor:
    return torch.zeros(shape, device="meta", **more)


def test_attention() -> None:
    from transformers.integrations import sdpa_attention

    query, flash = nowhere(1, 2, 4, 8, dtype=torch.bfloat16), "_scaled_dot_product_flash_attention"

    def attend() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(query, query, query)

    assert flash not in _operations(attend), "torch picks a device's kernel without a device: needless"
    with kernels.attention("cuda"):
        assert flash in _operations(attend)
    forward = sdpa_attention.sdpa_attention_forward
    reached(kernels.ATTENTION, lambda: forward(torch.nn.Module(), query, query, query, None, is_causal=False))


def test_dropout() -> None:
    rows, layer = nowhere(4, requires_grad=True), torch.nn.Dropout(0.1)

    def masks() -> list[torch.dtype]:
        kept: list[torch.dtype] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.dtype), lambda one: one):
            layer(rows)
        return kept

    assert torch.bool not in masks(), "torch keeps a byte of each number without a device: needless"
    with kernels.dropout("cuda"):
        assert masks() == [torch.bool]
    reached(kernels.DROPOUT, lambda: layer(rows))


def test_mask_reading() -> None:
    from transformers import masking_utils
    from transformers.utils import import_utils

    mask = nowhere(1, 4, dtype=torch.bool)
    assert masking_utils.is_tracing is import_utils.is_tracing
    assert not import_utils.is_tracing(mask), "transformers does not read masks without values: needless"
    with fake.MASK_READING.by(lambda value: value.is_meta):
        assert import_utils.is_tracing(mask)
    named_in(masking_utils, "is_tracing(padding_mask)")


def test_foreach_devices() -> None:
    from torch.utils import _foreach_utils

    supported = _foreach_utils._device_has_foreach_support
    assert not supported(torch.device("meta")), "torch counts meta in: needless"
    with fake.FOREACH_DEVICES.by(lambda: ["meta"]):
        assert supported(torch.device("meta"))
    weight = torch.nn.Parameter(nowhere(2))
    weight.grad = nowhere(2)
    reached(fake.FOREACH_DEVICES, lambda: torch.nn.utils.clip_grad_norm_([weight], 1.0))


def _coordinates() -> Any:
    return torch.sparse_coo_tensor(nowhere(2, 3, dtype=torch.long), nowhere(3), (4, 4))


def test_sparse_matrix() -> None:
    for run in (lambda: _coordinates().coalesce(), lambda: nowhere(4, 4) + _coordinates()):
        with pytest.raises(NotImplementedError):  # once torch can: needless
            run()
    with kernels.sparse_as_dense():
        found = _coordinates().coalesce()
        assert (nowhere(4, 4) + found).shape == found.to_dense().shape == (4, 4) and found._nnz() == 3
    for adapter in ("frod", "shira"):
        named_in(importlib.import_module(f"peft.tuners.{adapter}.layer"), "torch.sparse_coo_tensor(")


def test_sparse_product() -> None:
    from peft.tuners.frod import layer as frod

    with kernels.SPARSE_MATRIX.by(kernels.Coordinates), pytest.raises(TypeError):
        torch.sparse.mm(_coordinates(), nowhere(4, 2))
    with kernels.sparse_as_dense(), torch.device("meta"):
        assert torch.sparse.mm(_coordinates(), torch.zeros(4, 2)).shape == (4, 2)
    named_in(frod, "torch.sparse.mm(")


def test_adamss_clusters() -> None:
    from peft.tuners.adamss import layer

    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NotImplementedError):  # once PEFT reads no values: needless
        layer.clustering_Z(rows.to("meta"), 2, 10)
    theirs, ours = layer.clustering_Z(rows, 2, 10), fake._even_clusters(rows, 2, 10)
    assert (theirs[0].shape, theirs[1]) == (ours[0].shape, ours[1])
    named_in(layer.AdamssLayer, "clustering_Z(")


def test_xlora_adapters() -> None:
    from peft import PeftConfig, get_peft_model

    from peft_lab.models import meta
    from tests.engine import small

    config = PeftConfig.from_peft_type(
        peft_type="XLORA", task_type="CAUSAL_LM", hidden_size=64,
        adapters={"0": {"r": 2, "target_modules": ["q_proj"]}},
    )  # fmt: skip

    def mixed() -> Any:
        model: Any = small.blueprint("llama", 1, None).build()
        model.config.use_cache = False
        return get_peft_model(model, config)

    reached(fake.MIXED_ADAPTERS, mixed)
    with pytest.raises(Exception):  # noqa: B017  once PEFT takes settings: needless
        mixed()
    with fake.MIXED_ADAPTERS.by(meta.untrained_adapter), torch.device("meta"):
        names = " ".join(name for name, _ in mixed().named_parameters())
    assert "lora_A.0" in names and "internal_xlora_classifier" in names


def test_frod_basis() -> None:
    from peft.tuners.frod import model

    rows = [torch.randn(6, 4), torch.randn(5, 4)]
    with pytest.raises(RuntimeError):  # once PEFT reads no values: needless
        model._projection_from_weights([matrix.to("meta") for matrix in rows], 0.1)
    assert model._projection_from_weights(rows, 0.1).shape == fake._shared_basis(rows, 0.1).shape
    named_in(model.FrodModel, "_projection_from_weights(")


def test_frod_coordinates() -> None:
    from peft.tuners.frod.layer import FrodLayer

    solve, basis, weight = FrodLayer._calculate_frod_u_and_lambda, torch.randn(4, 4), torch.randn(6, 4)
    with pytest.raises(NotImplementedError):  # once PEFT reads no values: needless
        solve(None, basis, weight.to("meta"))
    theirs, ours = solve(None, basis, weight), fake._basis_coordinates(None, basis, weight)
    assert [one.shape for one in theirs] == [one.shape for one in ours]
    named_in(FrodLayer, "self._calculate_frod_u_and_lambda(")


def test_main_script() -> None:
    main = sys.modules["__main__"]
    plain = {"init_main_from_path", "init_main_from_name"}
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(main, "__spec__", None)
        changed.setattr(main, "__file__", str(PACKAGE / "elsewhere.py"), raising=False)
        assert plain & set(spawn.get_preparation_data("child")), (
            "children leave the main script alone: needless"
        )
        seen: list[set[str]] = []
        with processes.leaving_main_alone():
            assert not plain & set(spawn.get_preparation_data("child"))
            other = threading.Thread(target=lambda: seen.append(set(spawn.get_preparation_data("child"))))
            other.start()
            other.join()
        assert plain & seen[0], "another thread's children are its own business"
    for way in ("popen_spawn_posix", "popen_spawn_win32", "popen_forkserver"):
        source = Path(spawn.__file__).with_name(f"{way}.py").read_text(encoding="utf-8")
        assert "spawn.get_preparation_data(" in source, f"{way} calls it by another name"


def test_packed_rows() -> None:
    from transformers import masking_utils

    with fake.MASK_READING.by(lambda value: value.is_meta):
        found = masking_utils.find_packed_sequence_indices(nowhere(2, 4, dtype=torch.long))
    assert found is not None, "transformers looks at positions without values: needless"
    named_in(masking_utils._preprocess_mask_arguments, "find_packed_sequence_indices(")


def test_grouped_product() -> None:
    def product() -> Any:
        ends = nowhere(2, dtype=torch.int32)
        return torch.nn.functional.grouped_mm(nowhere(6, 16), nowhere(2, 16, 8), offs=ends)

    with pytest.raises(RuntimeError, match="BF16"):  # once torch lays it out: needless
        product()
    reached(fake.GROUPED_PRODUCT, product)
    with fake.GROUPED_PRODUCT.by(fake._grouped_product()):
        assert product().shape == (6, 8)


def test_folded_stack() -> None:
    proxy: Any = importlib.import_module("peft.tuners.lora.layer")._LoraFactorsProxy
    folded, stack = proxy(nowhere(2, 8, 4), nowhere(2, 4, 16), 2.0), nowhere(2, 8, 16)
    with pytest.raises(RuntimeError):  # once autocast knows tensors that are on no device: needless
        folded(stack)
    reached(fake.FOLDED_STACK, lambda: folded(stack))
    with fake.FOLDED_STACK.by(fake._folded):
        assert folded(stack).shape == (2, 8, 16)
    torch.manual_seed(0)
    valued, weights = proxy(torch.randn(2, 8, 4), torch.randn(2, 4, 16), 2.0), torch.randn(2, 8, 16)
    assert torch.equal(fake._folded(valued, weights), valued(weights))


def _source(module: str) -> str:
    return inspect.getsource(importlib.import_module(f"torch.distributed.fsdp._fully_shard.{module}"))


def test_meta_parameters() -> None:
    assert "self._validate_no_meta_params()" in _source("_fsdp_param_group")
    check = simulate.META_PARAMETERS.original()
    parameter = type("P", (), {"_param_fqn": "p", "sharded_param": torch.zeros(1, device="meta")})
    with pytest.raises(RuntimeError, match="meta"):  # once FSDP2 takes them: needless
        check(type("G", (), {"fsdp_params": [parameter]}))


def test_gathered_freed() -> None:
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

    source, gathered = _source("_fsdp_param"), torch.zeros(4)
    assert source.count(".free_unsharded_param(") + source.count("free_storage(tensor)") >= 2
    group = type("P", (), {"all_gather_outputs": [gathered], "_unsharded_inner_tensors": []})
    assert not _operations(lambda: FSDPParam.free_unsharded_param(group)), "operations tell of it: needless"
    assert gathered.untyped_storage().nbytes() == 0


def test_gathered_filled() -> None:
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

    assert ".alloc_all_gather_outputs()" in _source("_fsdp_collectives")
    gathered = torch.zeros(4)
    gathered.untyped_storage().resize_(0)
    group = type("P", (), {"all_gather_outputs": [gathered]})
    assert not _operations(lambda: FSDPParam.alloc_all_gather_outputs(group)), (
        "operations tell of it: needless"
    )
    assert gathered.untyped_storage().nbytes() == gathered.nbytes


def test_sharding_plans() -> None:
    source = inspect.getsource(importlib.import_module("torch.distributed.tensor._sharding_prop"))
    assert "self._propagate_tensor_meta_non_cached(" in source
    assert "FakeTensorMode()" in source, "torch tries nothing out: needless"


def _loss_in_chunks() -> Any:
    hidden, labels = nowhere(64, 4, requires_grad=True), nowhere(64, dtype=torch.long)
    options = torch.nn.LinearCrossEntropyOptions()
    return torch.nn.functional.linear_cross_entropy(hidden, nowhere(32, 4), labels, options=options)


def test_chunked_loop() -> None:
    assert "mm" not in _operations(_loss_in_chunks), "torch shows what the loss does: needless"
    with kernels.chunks_visible("cpu"):
        assert "mm" in _operations(_loss_in_chunks)
    reached(kernels.LOOP, _loss_in_chunks)


def test_chunk_buffers() -> None:
    source = inspect.getsource(kernels.BUFFERS.original())
    assert source.count('device.type == "cuda"') == 1 and "device = input.device" in source
    with kernels.chunks_visible("cpu"):
        reached(kernels.BUFFERS, _loss_in_chunks)


def test_chunk_sizes() -> None:
    reached(kernels.SIZES, _loss_in_chunks)
    assert "device" in inspect.signature(kernels.SIZES.original()).parameters


def test_deferred_download() -> None:
    """Streamlit knows the session that a file is made for, and notes the file for none."""
    from streamlit.runtime import backend_operation_handler
    from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

    manager = sessions.DEFERRED.original().__globals__["MediaFileManager"](MemoryMediaFileStorage("/media"))
    asked = manager.add_deferred(lambda: b"made", "text/plain", "1", "made.txt")
    assert "session_id" in manager._deferred_callables[asked]
    made = manager.execute_deferred(asked).rpartition("/")[2].partition(".")[0]
    noted = [name for files in manager._files_by_session_and_coord.values() for name in files.values()]
    assert made and made not in str(noted)
    assert ".execute_deferred" in inspect.getsource(backend_operation_handler.DeferredFileHandler)


def test_thread_for_a_part() -> None:
    """Streamlit drops the last messages of a run when a part is asked for as it ends."""
    with tempfile.TemporaryDirectory() as folder:
        dropped = late_turn.sent(Path(folder))
        with app.STARTS.by(_call), pytest.raises(AssertionError, match="does not answer"):
            late_turn.sent(Path(folder), patience=0.5)
    assert late_turn.WHOLE not in late_turn.finished(dropped), "the page's end is told: needless"


def test_request_of_a_timer() -> None:
    """Streamlit lets a timer's request behind a click name the page."""
    click = RerunData(page_script_hash="new")
    timer = RerunData(page_script_hash="old", fragment_id="part", is_auto_rerun=True)
    requests = ScriptRequests()
    assert requests.request_rerun(click) and requests.request_rerun(timer)
    assert requests.on_scriptrunner_ready().rerun_data.page_script_hash == "old", "needless"
    assert ".request_rerun(" in inspect.getsource(app.STARTS.original().__globals__["AppSession"])


def test_request_for_a_part() -> None:
    """Streamlit runs the page before for a part of it, behind the page that was opened."""
    with tempfile.TemporaryDirectory() as folder:
        messages, (first, second) = late_turn.drawn_meanwhile(Path(folder), timer=True)
        assert late_turn.opened(messages) == [second, first], "needless"
        asked: list[object] = []
        with (
            app.PARTS.by(lambda *_: asked.append(_)),
            pytest.raises(AssertionError, match="does not answer"),
        ):
            late_turn.drawn_meanwhile(Path(folder), timer=True, patience=0.5)
    assert len(asked) == 1


def test_pickled_weights() -> None:
    from transformers.modeling_utils import load_state_dict

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pytorch_model.bin"
        torch.save({"a": torch.zeros(1)}, file)
        assert set(load_state_dict(str(file))) == {"a"}, "transformers opens no pickles: needless"
        with loading.PICKLES.by(_call), pytest.raises(Called):
            load_state_dict(str(file))


def test_autocast_state() -> None:
    """PEFT asks before it casts beside a 4-bit layer."""
    from peft.tuners.lora import bnb

    with autocast.simulated("cuda", "bfloat16") as enter:
        inside = torch.nn.Linear(2, 2, device="meta")
        enter(inside)
        rows = torch.zeros(3, 2, device="meta")
        assert not torch.is_autocast_enabled()
        assert inside(rows).dtype == torch.bfloat16
    assert torch.nn.Linear(2, 2, device="meta")(rows).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.is_autocast_enabled(), "the processor's state is the GPU's: needless"
    assert "torch.is_autocast_enabled()" in inspect.getsource(bnb)


def test_autocast_cache() -> None:
    with autocast.AUTOCAST_CACHE.by(_call), pytest.raises(Called), torch.autocast("cpu", torch.bfloat16):
        pass
    torch.set_autocast_enabled("cpu", False)  # the context ended before it came to that


def test_linear_loss() -> None:
    from peft_lab.training.optimizers import chunked_loss

    hidden, weight = torch.zeros(1, 4, 8), torch.zeros(16, 8)
    with switches.LINEAR_LOSS.by(_call), pytest.raises(Called):
        chunked_loss(hidden, weight, torch.zeros(1, 4, dtype=torch.long))


def _replacements() -> list[Replacement]:
    """All that the package declares, found by reading it for files that name the class."""
    found: list[Replacement] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name == "errors.py" or not ("Replacement(" in text or ' = REPLACED["' in text):
            continue
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for value in vars(importlib.import_module(name)).values():
            candidates = value.values() if isinstance(value, dict) else (value,)
            found += [one for one in candidates if isinstance(one, Replacement) and one not in found]
    return found


def test_every_replacement_has_a_tripwire_and_a_reason() -> None:
    found = _replacements()
    tripwires = {f"test_{one.name.lower().replace(' ', '_').replace('-', '')}" for one in found}
    assert len(tripwires) == len(found) > 25 and tripwires <= globals().keys()
    assert all(one.reason.endswith(".") and callable(one.original()) for one in found)


#: What is set on a library's module or class past :class:`Replacement`, and why.
SET_OTHERWISE = {
    "takeaway/ranks.py: sys.excepthook": "a script's own process says why it ended",
    "cli/output.py: setattr(sys": "a stream that was closed from the start is opened",
    "cli/output.py: sys.stdout": "a stream that a reader left",
    "engine/sharding/simulate.py: torch.meta": "torch finds a device's streams by its name; there are none to replace",
    "models/meta.py: setattr(owner": "stand-ins for PEFT's set-up, held to real models by a test of all types",
    "runs/tracking/follow.py: warnings.showwarning": "a process of its own, whose warnings go to its file",
}
SET = re.compile(
    r"^ +((?:torch|peft|transformers|streamlit|sys|warnings|functional)\.[\w.]+)(?:, [\w.]+)* = "
    r"|^ +(setattr\((?:owner|torch|peft|transformers|streamlit|sys|warnings)\b)",
    re.MULTILINE,
)


def test_nothing_in_the_package_is_patched_otherwise() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {match[1] or match[2]}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "errors.py"
        for match in SET.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == set(SET_OTHERWISE)


def test_what_is_replaced_comes_back_whatever_happens() -> None:
    replacement = Replacement("test", "textwrap", "TextWrapper.fill", "a test")
    own = replacement.original()
    blocks: list[AbstractContextManager[None]] = [replacement.by(_call)]
    with pytest.raises(Called), blocks[0]:
        replacement.original()(None)
    assert replacement.original() is own


@pytest.mark.parametrize(
    ("module", "attribute"), [("textwrap", "gone"), ("textwrap", "Gone.fill"), ("gone", "fill")]
)
def test_a_function_that_is_gone_is_said(module: str, attribute: str) -> None:
    replacement = Replacement("test", module, attribute, "a test")
    with (
        pytest.raises(PeftLabError, match=facts(f"{module}.{attribute}")),
        replacement.by(_call),
    ):
        pass
