"""Write the page's short run as a file: plain torch, transformers and PEFT, and the functions that ran."""

from __future__ import annotations

import textwrap

from peft_lab.atlas import attach, live, rows
from peft_lab.atlas.base import AtlasType
from peft_lab.core.errors import Unsupported
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import get_model
from peft_lab.takeaway.base_code import asset_place
from peft_lab.takeaway.calls import literal
from peft_lab.takeaway.layout import WIDTH, Section, as_script, printed
from peft_lab.training.tasks import get_task

KIND = "causal"
#: Types that mix adapters which must be trained first.
MIXING = ("xlora", "arrow")

_ROWS = """\
TEXT = <TEXT>
LONGEST = <LONGEST>  # tokens of it that are learnt

tokenizer = AutoTokenizer.from_pretrained(MODEL)
made = tokenizer([TEXT], return_tensors="pt", padding=True, truncation=True, max_length=LONGEST)
ids, mask = made["input_ids"], made["attention_mask"]
batch = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
"""

_TYPE = """\
CONFIG = <CONFIG>

model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
model.config.use_cache = True
torch.manual_seed(<SEED>)  # of the type's own start
config = PeftConfig.from_peft_type(task_type="CAUSAL_LM", **CONFIG)
"""

#: What :func:`peft_lab.atlas.attach.attach` sets for types, not for variants.
_QUIET = """\
for name, value in (("progressbar", False), ("prompt_tuning_init", "RANDOM")):
    if hasattr(config, name):
        setattr(config, name, value)
"""

_RUN = """\
RATE, STEPS = <RATE>, <STEPS>

before, seen, after = learn(adapted, inputs, RATE, STEPS)
for step, loss in enumerate(seen, start=1):
    print(f"step {step:3}  loss {loss:.4f}")
print(f"before {before:.4f}, after {after:.4f} nats")
"""


def refusal(entry: AtlasType) -> str:
    """Return why there is no script, as a sentence; empty if there is one."""
    if entry.name in MIXING:
        return f"{entry.title} mixes trained adapters. Here it mixes untrained ones, so there is no script."
    return ""


def script(entry: AtlasType) -> str:
    """Return the file, which prints the losses of the run on the live decoder. Raises Unsupported with the reason
    of :func:`refusal`, BadInput if the decoder has none of the matrices that the type adapts."""
    reason = refusal(entry)
    if reason:
        raise Unsupported(reason, "type")
    return as_script(_header(entry), [_base(), _rows(), _type(entry), _run(entry)], ())


def _header(entry: AtlasType) -> str:
    title = get_model(live.LIVE[KIND]).title
    versions = {name: number.partition("+")[0] for name, number in rows.probed_versions().items()}
    needed = " ".join(f"{name}=={versions[name]}" for name in ("torch", "transformers", "peft"))
    about = textwrap.fill(
        f"Puts the type on {title} with its usual settings and learns {live.SIZES[KIND][1]} tokens by heart in "
        f"{live.SHOWN} steps, which shows that it trains, not how well. Paper: {entry.paper}.",
        WIDTH,
    )
    return f"{entry.title} on {title}: the atlas's short run.\n\n{about}\n\n    pip install {needed}"


def _base() -> Section:
    imports: list[str] = ["pathlib:Path"]
    prose, code = asset_place(ASSETS[live.LIVE[KIND]], imports)
    return Section("The base model", prose, code, tuple(imports))


def _rows() -> Section:
    row = get_task(live.TASKS[KIND]).load().train[0]
    code = _ROWS.replace("<TEXT>", literal(f"{row.text}{row.target}"))
    return Section(
        "The row",
        "One, by heart.",
        code.replace("<LONGEST>", str(live.SIZES[KIND][1])),
        ("transformers:AutoTokenizer",),
    )


def _type(entry: AtlasType) -> Section:
    lines = "".join(
        f"    {literal(name)}: {literal(value)},\n"
        for name, value in entry.config(get_model(live.LIVE[KIND]).shape).items()
    )
    code = _TYPE.replace("<CONFIG>", f"{{\n{lines}}}").replace("<SEED>", str(live.SEED))
    code += "" if entry.variant else _QUIET
    start = attach.start_of(entry)
    imports = ["torch", "peft:PeftConfig", "transformers:AutoModelForCausalLM"]
    if start is None:
        code += "adapted = get_peft_model(model, config)\n"
        imports.append("peft:get_peft_model")
    else:
        source = printed(start).replace(": ModelShape", ": Any").replace(": Batch", ": Any")
        code = f"{source.strip()}\n\n\n{code}adapted = {start.__name__}(model, config, None, batch)\n"
        imports.append("typing:Any")
    code += "inputs = dict(batch)\n"
    if entry.type in attach.TASKED:
        code += (
            'inputs["task_ids"] = torch.zeros(len(ids), dtype=torch.long)  # each row is of the first task\n'
        )
    if entry.type == "CPT":
        code += 'inputs["input_type_mask"] = torch.full_like(ids, 4)  # every token is of the answer\n'
    return Section(entry.title, f"{entry.differs} {entry.when}", code, tuple(imports))


def _run(entry: AtlasType) -> Section:
    code = _RUN.replace("<RATE>", repr(entry.rate)).replace("<STEPS>", str(live.SHOWN))
    return Section(
        "The run",
        "As the page runs it.",
        f"{printed(live.learn).strip()}\n\n\n{code}",
        ("math", "time", "torch", "typing:Any"),
    )
