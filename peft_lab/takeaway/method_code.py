"""Write the section that applies a method, and the lines that save what it learned.

PEFT's methods are written as their config. Full fine-tuning, BitFit, bottleneck adapters and deep prompts on
encoders are written out in plain torch. Any other method of ours is imported from this package; the file says so.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from peft_lab.methods.adapters import spec as adapters
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.base import CLASSIFYING, MethodSpec, TaskType
from peft_lab.methods.bitfit import spec as bitfit
from peft_lab.methods.bitfit.spec import SUBSET_ROLES, BitFit
from peft_lab.methods.full import spec as full
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.methods.ptuning import spec as ptuning
from peft_lab.methods.ptuning.spec import PTuning, is_deep
from peft_lab.methods.shared import bottleneck as places
from peft_lab.methods.shared import generation, peft_backed, virtual_tokens
from peft_lab.methods.shared.peft_backed import CONFIG_FILE, WEIGHTS_FILE
from peft_lab.models.catalogue import ModelEntry
from peft_lab.models.shapes import HEADS, ModelShape, ModuleGroup
from peft_lab.takeaway.calls import PeftCall, literal
from peft_lab.takeaway.layout import constants

# ----------------------------------------
# Additions of prompt methods to PEFT's config: a text to start from, and deep prompts on encoders in plain torch.


DEEP_IMPORTS = ("collections.abc:Iterator", "collections.abc:Sequence", "typing:Any")
_SOURCES = (
    virtual_tokens.attend,
    virtual_tokens.add_prompts,
    virtual_tokens.use,
    virtual_tokens.layers,
    virtual_tokens.keys_and_values,
)


def is_deep_encoder(method: MethodSpec, call: PeftCall | None, values: Mapping[str, Any]) -> bool:
    """Return whether these settings are the deep prompts that PEFT does not have."""
    return call is None and isinstance(method, PTuning) and is_deep(values)


def text_start(call: PeftCall, values: Mapping[str, Any]) -> str:
    """Return the code that fills a prefix from a text; empty for any other start. Uses ``model``, ``tokenizer``."""
    if call.name != "PrefixTuningConfig" or values["init_weights"] != "text" or _projected(values):
        return ""
    tokens = values["num_virtual_tokens"]
    return (
        f"text = {_repeated(values)}\n"
        "initialize_kv_prefix_from_text(\n"
        f"    model, tokenizer, text=text, use_chat_template=False, max_length={tokens}\n"
        ")\n"
    )


def words_start(call: PeftCall, values: Mapping[str, Any]) -> str:
    """Return the lines that start P-Tuning's encoder from a text; empty for any other start."""
    if call.name != "PromptEncoderConfig" or values["init_weights"] != "text":
        return ""
    return f"{_ids(values)}start_as_words(model, ids)\n"


def words_define() -> str:
    return inspect.getsource(virtual_tokens.start_as_words)


def _ids(values: Mapping[str, Any]) -> str:
    tokens = values["num_virtual_tokens"]
    return f'text = {_repeated(values)}\nids = tokenizer(text, truncation=True, max_length={tokens})["input_ids"]\n'


def _projected(values: Mapping[str, Any]) -> bool:
    return bool(values.get("prefix_projection", False))


def _repeated(values: Mapping[str, Any]) -> str:
    return f'" ".join([{literal(values["init_text"])}] * {values["num_virtual_tokens"]})'


def deep_define() -> str:
    """Return the source of the functions that put deep prompts into an encoder."""
    names = constants(virtual_tokens, "NAME", "CHILD", "ATTENTION") + "\n"
    return names + "".join(f"\n\n{inspect.getsource(function)}" for function in _SOURCES)


def deep_code(values: Mapping[str, Any]) -> str:
    """Return code that puts deep prompts into ``model`` and leaves their names in ``trains``."""
    tokens, start = values["num_virtual_tokens"], values["init_weights"]
    if start != "text":
        return f"trains = add_prompts(model, {tokens}, {literal(start)})\n"
    return f'{_ids(values)}trains = add_prompts(model, {tokens}, "text", ids)\n'


# ----------------------------------------
# Bottleneck adapters in plain torch, for exported files and the settings' code.


def adapters_code(method: Adapters, shape: ModelShape, values: Mapping[str, Any]) -> tuple[str, str]:
    """Return definitions and use of bottleneck adapters in plain torch, drawing random numbers in the lab's order.

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
        inputs = places.place_inputs(host, entrance)
        found.append(f'    (paths(model, r"{_pattern(host)}"), {inputs}, {host.out_features}{reads}),\n')
    attach = _PARALLEL if _reads(values) else _SEQUENTIAL
    if after is not None:
        attach = _THROUGH_NORM
    attach = attach.replace("<SUM>", _sum(shape, values, after is not None))
    trains = 'trains = [name for name, _ in model.named_parameters() if ".bottleneck." in name]'
    return f"{code}\n\n{_PATHS}", f"places = [\n{''.join(found)}]\n{attach}\n{trains}\n"


def _reads(values: Mapping[str, Any]) -> bool:
    """Return whether an adapter reads the input of a module other than its host."""
    return values["placement"] in (*places.SCALED, *places.SUMMED)


def _sum(shape: ModelShape, values: Mapping[str, Any], through_norm: bool) -> str:
    """Return the expression that a hook returns. A mixture of experts may return a tuple and a flattened output."""
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
    """Return a regular expression for the end of a group's paths: a classifier prefixes the bare model's paths."""
    return re.escape(group.path).replace(r"\{\}", r"\d+")


def hosts_code(values: Mapping[str, Any]) -> str:
    """Return the config's line that says where each adapter sits and, for a parallel one, whose input it reads."""
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


class Settings(Protocol):
    """What determines how a method is written, for a run (:class:`~peft_lab.takeaway.facts.Facts`) or a page."""

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
    """The code of one method.

    Attributes:
        code: takes ``model``, the fresh base, and leaves the model to train in ``model``.
        define: classes and functions that the code uses.
        save: writes ``model`` to ``OUT``.
        libraries: packages needed beside torch and transformers.
        ours: whether it imports this package.
        reads: names that must be set beside ``model``: ``tokenizer``, ``DEVICE``.
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
    """Return the code of a method. Raises BadInput for settings that cannot be written."""
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
    """Return what PEFT's config cannot express for a prompt method. ``without_dropout`` is defined; the caller
    writes the call, which may stand before or after the model that PEFT makes."""
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
    """Return a method in plain torch. ``config``: the lines that PEFT Lab's own loader reads beside the tensors."""
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
    """Return the lines of a saved config."""
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
    """Return code that applies a method through this package."""
    lines = "".join(f"    {literal(name)}: {literal(value)},\n" for name, value in values.items())
    return (
        f"values = {{\n{lines}}}\n"
        f"method, shape = get_method({literal(method.slug)}), resolve({literal(model)}).shape\n"
        f"model = method.apply(model, shape, method.require(shape, values), {literal(task_type)})\n"
    )


def still_define() -> str:
    """Return the source of the function that switches off a frozen base's dropout."""
    return inspect.getsource(peft_backed.without_dropout)


def bridge_code() -> str:
    """Return the source of the workaround for generation with PEFT's prompt methods."""
    why = "".join(f"# {line}".rstrip() + "\n" for line in str(generation.__doc__).strip().splitlines())
    return f"{why}{inspect.getsource(generation.CacheNames)}\n\n{inspect.getsource(generation.bridge_cache_names)}"


def bitfit_code(shape: ModelShape, values: Mapping[str, Any], head: bool) -> str:
    """Return BitFit in plain torch. ``head``: the model has a classification head, which is trained as well."""
    code = 'trains = [name for name, _ in model.named_parameters() if name.endswith("bias")]\n'
    if values["subset"] != "all":
        paths = [group.path for group, _ in shape.biases if group.role in SUBSET_ROLES]
        endings = [f"{path.rpartition('{}')[2]}.bias" for path in paths]
        code = (
            f"trains = [name for name, _ in model.named_parameters() if name.endswith({_tuple(endings)})]\n"
        )
    return f"{code}{_train_only(head)}"


def _train_only(head: bool) -> str:
    """Return code that freezes all parameters but those named in ``trains`` and, with ``head``, the head."""
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
#: The state that a method in plain torch saves, if one process has all of it.
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
