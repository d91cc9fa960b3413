"""The section in which a method is applied, and the lines that save what it learned.

PEFT's methods are written as the config they were made with. Full fine-tuning, BitFit and bottleneck adapters are
written out in plain torch. Any other method of our own is imported from this package, and the file says so.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.export.calls import PeftCall, literal
from peft_lab.export.facts import Facts
from peft_lab.export.prompt_code import (
    DEEP_IMPORTS,
    deep_code,
    deep_define,
    is_deep_encoder,
    text_start,
    words_define,
    words_start,
)
from peft_lab.methods import _dropout, _generation
from peft_lab.methods._own import HEADS
from peft_lab.methods.adapters import Adapters
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.bitfit import SUBSET_ROLES, BitFit
from peft_lab.methods.full import FullFineTuning
from peft_lab.shapes import ModelShape, ModuleGroup


@dataclass(frozen=True)
class Applied:
    """How one method is written.

    Attributes:
        code: takes ``model``, the fresh base, and leaves in ``model`` what is trained.
        define: classes and functions that the code uses.
        save: writes ``model`` to ``OUT``.
        libraries: packages it needs beside torch and transformers.
        ours: whether it imports this package.
    """

    code: str
    imports: tuple[str, ...]
    save: str
    save_imports: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    ours: bool = False
    define: str = ""


def applied(facts: Facts) -> Applied:
    """How to write the method of a run. Raises BadInput for settings that cannot be written."""
    if facts.call is not None:
        return _peft(facts)
    head = facts.classifies
    if isinstance(facts.method, FullFineTuning):
        return _plain("model.requires_grad_(True)\n", ())
    if isinstance(facts.method, BitFit):
        code = f"without_dropout(model)\n{bitfit_code(facts.entry.shape, facts.values, head)}"
        return _plain(code, ("typing:Any",), still_define())
    if isinstance(facts.method, Adapters):
        define, code = adapters_code(facts.method, facts.entry.shape, facts.values, head)
        return _plain(code, ("re",), define)
    if is_deep_encoder(facts.method, facts.call, facts.values):
        code = f"without_dropout(model)\n{deep_code(facts.values)}{_train_only(head)}"
        return _plain(code, DEEP_IMPORTS, f"{deep_define()}\n\n{still_define()}")
    return _ours(facts)


def _peft(facts: Facts) -> Applied:
    call = facts.call
    assert call is not None
    code = f"config = {call.source('MODEL')}\nmodel = get_peft_model(model, config)\n"
    imports = [f"peft:{call.name}", "peft:get_peft_model"]
    define = ""
    if call.virtual_tokens:
        define, code = _prompts(facts, call, code, imports)
    return Applied(code, tuple(imports), "model.save_pretrained(OUT)\n", libraries=("peft",), define=define)


def _prompts(facts: Facts, call: PeftCall, code: str, imports: list[str]) -> tuple[str, str]:
    """Definitions and code of PEFT's prompt methods, with what their configs cannot say."""
    parts = [still_define()]
    code = f"without_dropout(model)\n{code}"
    imports.append("typing:Any")
    start = text_start(call, facts.values)
    if start:
        imports.append("peft:initialize_kv_prefix_from_text")
    words = words_start(call, facts.values)
    if words:
        parts.append(words_define())
        imports.append("collections.abc:Sequence")
    code = f"{code}{start}{words}"
    if facts.entry.kind != "encoder":
        parts.append(bridge_code())
        code += "bridge_cache_names(model)\n"
    return "\n\n".join(parts), code


def _plain(code: str, imports: tuple[str, ...], define: str = "") -> Applied:
    return Applied(code, imports, _SAVE, ("safetensors.torch:save_file",), ("safetensors",), define=define)


def _ours(facts: Facts) -> Applied:
    code = (
        "# This method is not in PEFT and too long to write out: it comes from PEFT Lab itself.\n"
        f"{ours_code(facts.method, facts.spec.model, facts.values, facts.task_type)}"
    )
    return Applied(
        code,
        ("peft_lab.methods:get_method", "peft_lab.models:resolve"),
        f"get_method({literal(facts.method.slug)}).save(model, OUT)\n",
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
    return inspect.getsource(_dropout.without_dropout)


def bridge_code() -> str:
    """The workaround for generation with PEFT's prompt methods, word for word as it is used here."""
    why = "".join(f"# {line}".rstrip() + "\n" for line in str(_generation.__doc__).strip().splitlines())
    return f"{why}{inspect.getsource(_generation.CacheNames)}\n\n{inspect.getsource(_generation.bridge_cache_names)}"


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


def adapters_code(
    method: Adapters, shape: ModelShape, values: Mapping[str, Any], head: bool
) -> tuple[str, str]:
    """Definitions and use of bottleneck adapters in plain torch, in the same order of random numbers as here."""
    nonlinearity = values["nonlinearity"]
    function = "torch.tanh" if nonlinearity == "tanh" else f"torch.nn.functional.{nonlinearity}"
    parallel = values["placement"] == "parallel"
    code = _ADAPTERS
    for mark, value in (
        ("WIDTH", str(values["bottleneck"])),
        ("STD", repr(values["init_std"])),
        ("FUNCTION", function),
        ("SCALE", repr(values["scale"])),
    ):
        code = code.replace(f"<{mark}>", value)
    places = []
    for host, entrance in method.hosts(shape, values):
        inputs = host.out_features if entrance is None else entrance.in_features
        reads = "" if entrance is None else f', paths(r"{_pattern(entrance)}")'
        places.append(f'    (paths(r"{_pattern(host)}"), {inputs}, {host.out_features}{reads}),\n')
    attach = _PARALLEL.replace("<SCALE>", repr(values["scale"])) if parallel else _SEQUENTIAL
    trains = 'trains = [name for name, _ in model.named_parameters() if ".bottleneck." in name]'
    return f"{code}\n\n{_PATHS}", f"places = [\n{''.join(places)}]\n{attach}\n{trains}\n{_train_only(head)}"


def _pattern(group: ModuleGroup) -> str:
    """A regular expression for the end of a group's paths: a classifier holds the bare model under one more name."""
    return re.escape(group.path).replace(r"\{\}", r"\d+")


_SAVE = """\
OUT.mkdir(exist_ok=True)
state = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
save_file(state, OUT / "adapter_model.safetensors")
"""

_ADAPTERS = '''\
class Bottleneck(torch.nn.Module):
    """Down to a few features, a nonlinear function, and up again. Both matrices start tiny."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.down = torch.nn.Linear(inputs, <WIDTH>, device=DEVICE)
        self.up = torch.nn.Linear(<WIDTH>, outputs, device=DEVICE)
        for layer in (self.down, self.up):
            torch.nn.init.trunc_normal_(layer.weight, std=<STD>, a=-2 * <STD>, b=2 * <STD>)
            torch.nn.init.zeros_(layer.bias)

    def forward(self, hidden):
        inside = <FUNCTION>(self.down(hidden.to(self.down.weight.dtype)))
        return self.up(inside).to(hidden.dtype)
'''

_PATHS = '''\
def paths(pattern):
    """The modules whose path is the pattern, in the order of the layers."""
    return [path for path, _ in model.named_modules() if re.fullmatch(rf"(?:.*\\.)?{pattern}", path)]
'''

_SEQUENTIAL = """\
for hosts, inputs, outputs in places:
    for path in hosts:
        host = model.get_submodule(path)
        host.bottleneck = Bottleneck(inputs, outputs)
        host.register_forward_hook(lambda host, inputs, output: output + host.bottleneck(output))
"""

_PARALLEL = """\
for hosts, inputs, outputs, entrances in places:
    for path, entrance in zip(hosts, entrances, strict=True):
        host = model.get_submodule(path)
        host.bottleneck = Bottleneck(inputs, outputs)
        reader = model.get_submodule(entrance)
        reader.register_forward_pre_hook(lambda reader, inputs, host=host: setattr(host, "seen", inputs[0]))
        host.register_forward_hook(lambda host, inputs, output: output + <SCALE> * host.bottleneck(host.seen))
"""
