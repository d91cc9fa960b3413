"""The code of a model card: it loads an adapter with the plain libraries and is carried out in the adapter's folder."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.export.adapters_code import adapters_code
from peft_lab.export.calls import after_loading, literal, quantisation_source
from peft_lab.export.facts import RunOutcome
from peft_lab.export.layout import import_lines
from peft_lab.export.method_code import bridge_code
from peft_lab.export.prompt_code import DEEP_IMPORTS, deep_define
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.bitfit.spec import BitFit
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.methods.ptuning.spec import DEEP_TYPE
from peft_lab.methods.shared.own_format import WEIGHTS_FILE, read_any_config
from peft_lab.methods.shared.peft_backed import PeftMethod


@dataclass(frozen=True)
class _Attached:
    """How the saved tensors get into ``model``: lines, what they import, and functions and classes that they use."""

    code: str
    imports: tuple[str, ...]
    define: str = ""


def is_peft(known: RunOutcome) -> bool:
    """Whether PEFT itself reads the adapter. Raises BadInput where there is none."""
    return isinstance(known.method, PeftMethod) and _saved_type(known) != DEEP_TYPE


def loading_code(known: RunOutcome) -> str:
    """Python text that leaves the tuned model in ``model``. Raises BadInput for a run without adapter."""
    kind = known.loader
    reader = "" if known.task.images else "tokenizer = AutoTokenizer.from_pretrained(BASE)\n"
    imports = ["torch", f"transformers:AutoModelFor{kind}"]
    options = f", num_labels={len(known.task.labels)}" if known.classifies else ""
    if known.task.images or (
        known.classifies and not known.entry.live
    ):  # a head for other classes is replaced
        options += ", ignore_mismatched_sizes=True"
    if not known.task.images:
        imports.append("transformers:AutoTokenizer")
    how = known.method.quantization(known.values)
    before = settle = ""
    if how is not None:
        settle, needed = after_loading(how)
        imports += ["transformers:BitsAndBytesConfig", *needed]
        before, options = f"stored = {quantisation_source(how)}\n", f"{options}, quantization_config=stored"
    attached = _attached(known)
    define = f"\n\n{attached.define.strip()}\n\n" if attached.define else ""
    labels = f"labels = {literal(known.task.labels)}\n" if known.classifies else ""
    return (
        f"{import_lines([*imports, *attached.imports])}\n\n"
        f"BASE = {literal(known.hub_id)}\n"
        f'ADAPTER = "."  # the folder that this file is in\n{define}\n'
        f"{before}model = AutoModelFor{kind}.from_pretrained(BASE{options}, dtype=torch.{known.dtype})\n"
        f"{settle}{attached.code}model.eval()\n{reader}{labels}"
    )


def _saved_type(known: RunOutcome) -> str:
    return str(read_any_config(known.run.adapter).get("peft_type"))


def _attached(known: RunOutcome) -> _Attached:
    method, values = known.method, known.values
    if is_peft(known):
        code, imports = "model = PeftModel.from_pretrained(model, ADAPTER)\n", ("peft:PeftModel",)
        if "num_virtual_tokens" not in values or known.classifies:
            return _Attached(code, imports)
        return _Attached(f"{code}bridge_cache_names(model)\n", (*imports, "typing:Any"), bridge_code())
    if isinstance(method, FullFineTuning | BitFit):
        return _Attached(_READ + _FILL, _READS)
    if _saved_type(known) == DEEP_TYPE:
        code = f'add_prompts(model, {values["num_virtual_tokens"]}, "zero")\n'
        return _Attached(code + _READ + _FILL, (*_READS, *DEEP_IMPORTS), deep_define())
    if isinstance(method, Adapters):
        define, places = adapters_code(method, known.entry.shape, values)
        return _Attached(f"DEVICE = model.device\n{places}{_READ}{_RENAME}{_FILL}", (*_READS, "re"), define)
    return _Attached(
        f"model = get_method({literal(method.slug)}).load(model, Path(ADAPTER))  # PEFT Lab has to be installed\n",
        ("pathlib:Path", "peft_lab.methods:get_method"),
    )


_READS = ("pathlib:Path", "safetensors.torch:load_file")
_READ = f"state = load_file(Path(ADAPTER) / {literal(WEIGHTS_FILE)})\n"
_RENAME = """\
# In PEFT Lab a host holds several adapters by name; here it holds one.
state = {name.replace(".adapters.default.", "."): tensor for name, tensor in state.items()}
"""
_FILL = "unknown = model.load_state_dict(state, strict=False).unexpected_keys\nassert not unknown\n"
