"""Bottleneck adapters in plain torch, as exported files and the settings' code write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.shared import adapters_places as places
from peft_lab.models.shapes import ModelShape, ModuleGroup


def adapters_code(method: Adapters, shape: ModelShape, values: Mapping[str, Any]) -> tuple[str, str]:
    """Definitions and use of bottleneck adapters in plain torch, in the same order of random numbers as here.

    The code reads ``model`` and ``DEVICE`` and leaves the new parameters' names in ``trains``.
    """
    nonlinearity = values["nonlinearity"]
    function = "torch.tanh" if nonlinearity == "tanh" else f"torch.nn.functional.{nonlinearity}"
    placement = values["placement"]
    code = _ADAPTERS
    for mark, value in (
        ("WIDTH", str(values["bottleneck"])),
        ("STD", repr(values["init_std"])),
        ("FUNCTION", function),
        ("SCALE", repr(values["scale"])),
    ):
        code = code.replace(f"<{mark}>", value)
    found, after = [], None
    for host, entrance in method.hosts(shape, values):
        after = places.norm_after(shape, placement, host)
        reads = "".join(
            f', paths(model, r"{_pattern(group)}")' for group in (entrance, after) if group is not None
        )
        inputs = places.inputs(host, entrance)
        found.append(f'    (paths(model, r"{_pattern(host)}"), {inputs}, {host.out_features}{reads}),\n')
    attach = _PARALLEL if _reads(values) else _SEQUENTIAL
    if after is not None:
        attach = _THROUGH_NORM
    attach = attach.replace("<SUM>", _sum(shape, values, after is not None))
    trains = 'trains = [name for name, _ in model.named_parameters() if ".bottleneck." in name]'
    return f"{code}\n\n{_PATHS}", f"places = [\n{''.join(found)}]\n{attach}\n{trains}\n"


def _reads(values: Mapping[str, Any]) -> bool:
    """Whether an adapter reads the input of another module than its host."""
    return values["placement"] in (*places.SCALED, *places.SUMMED)


def _sum(shape: ModelShape, values: Mapping[str, Any], through_norm: bool) -> str:
    """What a hook gives back. A mixture of experts may give back a tuple, and its output flattened."""
    if values["placement"] in places.SUMMED:
        read = "norm(host.seen + {0})" if through_norm else "host.seen + {0}"
        added = f"{{0}} + host.bottleneck({read})"
    elif not _reads(values):
        added = "{0} + host.bottleneck({0})"
    elif shape.mixtures:
        added = "{0} + " + repr(values["scale"]) + " * host.bottleneck(host.seen).view({0}.shape)"
    else:
        added = "{0} + " + repr(values["scale"]) + " * host.bottleneck(host.seen)"
    if not shape.mixtures:
        return added.format("output")
    whole = f"({added.format('output[0]')}, *output[1:])"
    return f"{whole} if isinstance(output, tuple) else {added.format('output')}"


def _pattern(group: ModuleGroup) -> str:
    """A regular expression for the end of a group's paths: a classifier holds the bare model under one more name."""
    return re.escape(group.path).replace(r"\{\}", r"\d+")


def hosts_code(values: Mapping[str, Any]) -> str:
    """The line of the config that says where each adapter sits and, of a parallel one, whose input it reads."""
    each = "[path, None] for hosts, _, _ in places for path in hosts"
    if _reads(values):
        each = "pair for hosts, _, _, *read in places for pair in zip(hosts, *read, strict=True)"
    return f'    "hosts": [{each}],\n'


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
def paths(model, pattern):
    """The modules whose path is the pattern, in the order of the layers."""
    return [path for path, _ in model.named_modules() if re.fullmatch(rf"(?:.*\\.)?{pattern}", path)]
'''

_SEQUENTIAL = """\
for hosts, inputs, outputs in places:
    for path in hosts:
        host = model.get_submodule(path)
        host.bottleneck = Bottleneck(inputs, outputs)
        host.register_forward_hook(lambda host, inputs, output: <SUM>)
"""

_PARALLEL = """\
for hosts, inputs, outputs, entrances in places:
    for path, entrance in zip(hosts, entrances, strict=True):
        host = model.get_submodule(path)
        host.bottleneck = Bottleneck(inputs, outputs)
        reader = model.get_submodule(entrance)
        reader.register_forward_pre_hook(lambda reader, inputs, host=host: setattr(host, "seen", inputs[0]))
        host.register_forward_hook(lambda host, inputs, output: <SUM>)
"""

_THROUGH_NORM = """\
for hosts, inputs, outputs, entrances, norms in places:
    for path, entrance, after in zip(hosts, entrances, norms, strict=True):
        host, norm = model.get_submodule(path), model.get_submodule(after)
        host.bottleneck = Bottleneck(inputs, outputs)
        reader = model.get_submodule(entrance)
        reader.register_forward_pre_hook(lambda reader, inputs, host=host: setattr(host, "seen", inputs[0]))
        host.register_forward_hook(lambda host, inputs, output, norm=norm: <SUM>)
"""
