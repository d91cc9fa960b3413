"""The section in which a method is applied, and the lines that save what it learned.

PEFT's methods are written as the config they were made with. Full fine-tuning, BitFit and bottleneck adapters are
written out in plain torch. Any other method of our own is imported from this package, and the file says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from peft_lab.export.adapters_code import adapters_code, hosts_code
from peft_lab.export.calls import PeftCall, literal
from peft_lab.export.prompt_code import (
    DEEP_IMPORTS,
    deep_code,
    deep_define,
    is_deep_encoder,
    text_start,
    words_define,
    words_start,
)
from peft_lab.methods.adapters import spec as adapters
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.base import CLASSIFYING, MethodSpec, TaskType
from peft_lab.methods.bitfit import spec as bitfit
from peft_lab.methods.bitfit.spec import SUBSET_ROLES, BitFit
from peft_lab.methods.full import spec as full
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.methods.ptuning import spec as ptuning
from peft_lab.methods.shared import dropout, generation
from peft_lab.methods.shared.own_format import CONFIG_FILE, WEIGHTS_FILE
from peft_lab.models.catalogue import ModelEntry
from peft_lab.models.heads import HEADS
from peft_lab.models.shapes import ModelShape


class Settings(Protocol):
    """What decides how a method is written: that of a run (:class:`~peft_lab.export.facts.Facts`) or of a page."""

    @property
    def method(self) -> MethodSpec: ...

    @property
    def entry(self) -> ModelEntry: ...

    @property
    def values(self) -> Mapping[str, Any]: ...

    @property
    def call(self) -> PeftCall | None: ...

    @property
    def task_type(self) -> TaskType: ...


@dataclass(frozen=True)
class Beyond:
    """What a prompt method does to a model beyond PEFT's config.

    Attributes:
        define: functions that the code uses.
        code: follows the model that PEFT made; reads ``model`` and, with ``reads_tokenizer``, ``tokenizer``.
    """

    define: str
    code: str
    imports: tuple[str, ...]
    reads_tokenizer: bool


@dataclass(frozen=True)
class Applied:
    """How one method is written.

    Attributes:
        code: takes ``model``, the fresh base, and leaves in ``model`` what is trained.
        define: classes and functions that the code uses.
        save: writes ``model`` to ``OUT``.
        libraries: packages it needs beside torch and transformers.
        ours: whether it imports this package.
        reads: the names beside ``model`` that the code finds set: ``tokenizer``, ``DEVICE``.
    """

    code: str
    imports: tuple[str, ...]
    save: str
    save_imports: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    ours: bool = False
    define: str = ""
    reads: tuple[str, ...] = ()


def applied(how: Settings) -> Applied:
    """How to write a method. Raises BadInput for settings that cannot be written."""
    if how.call is not None:
        return _peft(how, how.call)
    head = how.task_type in CLASSIFYING
    if isinstance(how.method, FullFineTuning):
        return _plain("model.requires_grad_(True)\n", (), _config(full.PEFT_TYPE))
    if isinstance(how.method, BitFit):
        code = f"without_dropout(model)\n{bitfit_code(how.entry.shape, how.values, head)}"
        return _plain(code, ("typing:Any",), _config(bitfit.PEFT_TYPE), still_define())
    if isinstance(how.method, Adapters):
        define, code = adapters_code(how.method, how.entry.shape, how.values)
        config = _config(adapters.PEFT_TYPE, **how.values, task_type=how.task_type) + hosts_code(how.values)
        return _plain(f"{code}{_train_only(head)}", ("re", "torch"), config, define, ("DEVICE",))
    if is_deep_encoder(how.method, how.call, how.values):
        code = f"without_dropout(model)\n{deep_code(how.values)}{_train_only(head)}"
        config = _config(ptuning.DEEP_TYPE, num_virtual_tokens=how.values["num_virtual_tokens"])
        reads = ("tokenizer",) if how.values["init_weights"] == "text" else ()
        define = f"{deep_define()}\n\n{still_define()}"
        return _plain(code, (*DEEP_IMPORTS, "torch"), config, define, reads)
    return _ours(how)


def _peft(how: Settings, call: PeftCall) -> Applied:
    code = f"config = {call.source('MODEL')}\nmodel = get_peft_model(model, config)\n"
    imports: tuple[str, ...] = (f"peft:{call.name}", "peft:get_peft_model")
    define = ""
    if call.virtual_tokens:
        more = past_config(how, call)
        define, imports = more.define, (*imports, *more.imports)
        code = f"without_dropout(model)\n{code}{more.code}"
    return Applied(code, imports, _SAVE_PEFT, libraries=("peft",), define=define)


def past_config(how: Settings, call: PeftCall) -> Beyond:
    """What the configs of PEFT's prompt methods cannot say. ``without_dropout`` is defined, and called by whoever
    writes the code: it may stand before or after the model that PEFT makes."""
    parts, imports = [still_define()], ["typing:Any"]
    start, words = text_start(call, how.values), words_start(call, how.values)
    if start:
        imports.append("peft:initialize_kv_prefix_from_text")
    if words:
        parts.append(words_define())
        imports.append("collections.abc:Sequence")
    code = f"{start}{words}"
    if how.entry.kind != "encoder":
        parts.append(bridge_code())
        code += "bridge_cache_names(model)\n"
    return Beyond("\n\n".join(parts), code, tuple(imports), reads_tokenizer=bool(start or words))


def _plain(
    code: str, imports: tuple[str, ...], config: str, define: str = "", reads: tuple[str, ...] = ()
) -> Applied:
    """A method in plain torch. ``config``: the lines of what PEFT Lab's own loader reads beside the tensors."""
    return Applied(
        code,
        imports,
        _SAVE.replace("<CONFIG>", f"{{\n{config}}}"),
        ("json", "safetensors.torch:save_file"),
        ("safetensors",),
        define=define,
        reads=reads,
    )


def _config(peft_type: str, **values: Any) -> str:
    """The lines of a saved config."""
    config = {"peft_type": peft_type, **values}
    return "".join(f"    {literal(name)}: {literal(value)},\n" for name, value in config.items())


def _ours(how: Settings) -> Applied:
    code = (
        "# This method is not in PEFT and too long to write out: it comes from PEFT Lab itself.\n"
        f"{ours_code(how.method, how.entry.name, how.values, how.task_type)}"
    )
    return Applied(
        code,
        ("peft_lab.methods:get_method", "peft_lab.models.catalogue:resolve"),
        f"get_method({literal(how.method.slug)}).save(model, OUT)\n",
        libraries=("peft", "safetensors"),
        ours=True,
    )


def ours_code(method: MethodSpec, model: str, values: Mapping[str, Any], task_type: str) -> str:
    """A method applied through this package."""
    lines = "".join(f"    {literal(name)}: {literal(value)},\n" for name, value in values.items())
    return (
        f"values = {{\n{lines}}}\n"
        f"method, shape = get_method({literal(method.slug)}), resolve({literal(model)}).shape\n"
        f"model = method.apply(model, shape, method.require(shape, values), {literal(task_type)})\n"
    )


def still_define() -> str:
    """The function that switches the dropout of a frozen base off."""
    return inspect.getsource(dropout.without_dropout)


def bridge_code() -> str:
    """The workaround for generation with PEFT's prompt methods, word for word as it is used here."""
    why = "".join(f"# {line}".rstrip() + "\n" for line in str(generation.__doc__).strip().splitlines())
    return f"{why}{inspect.getsource(generation.CacheNames)}\n\n{inspect.getsource(generation.bridge_cache_names)}"


def bitfit_code(shape: ModelShape, values: Mapping[str, Any], head: bool) -> str:
    """BitFit in plain torch. ``head``: the model has a classification head, which is trained as well."""
    code = 'trains = [name for name, _ in model.named_parameters() if name.endswith("bias")]\n'
    if values["subset"] != "all":
        paths = [group.path for group, _ in shape.biases if group.role in SUBSET_ROLES]
        endings = [f"{path.rpartition('{}')[2]}.bias" for path in paths]
        code = (
            f"trains = [name for name, _ in model.named_parameters() if name.endswith({_tuple(endings)})]\n"
        )
    return f"{code}{_train_only(head)}"


def _train_only(head: bool) -> str:
    """Freeze all but the parameters named in ``trains``."""
    if not head:
        return (
            "for name, parameter in model.named_parameters():\n    parameter.requires_grad = name in trains\n"
        )
    return (
        "for name, parameter in model.named_parameters():\n"
        f"    head = {literal(HEADS[0])} in name or {literal(HEADS[1])} in name\n"
        "    parameter.requires_grad = name in trains or head\n"
    )


def _tuple(texts: list[str]) -> str:
    return f"({', '.join(map(literal, texts))}{',' if len(texts) == 1 else ''})"


_SAVE_PEFT = """\
model.save_pretrained(OUT)
(OUT / "README.md").unlink(missing_ok=True)  # PEFT's blank model card
"""
#: What a method in plain torch saves, where one process has all of it.
TRAINED = (
    "state = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if "
    "parameter.requires_grad}\n"
)
_SAVE = f"""\
OUT.mkdir(exist_ok=True)
{TRAINED}save_file(state, OUT / {literal(WEIGHTS_FILE)})
config = <CONFIG>
(OUT / {literal(CONFIG_FILE)}).write_text(json.dumps(config, indent=2) + "\\n", "utf-8")
"""
