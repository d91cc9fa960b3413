"""A plan as one script for torchrun: plain libraries, and the functions that the lab trains and shards with."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from peft_lab.advise.plan import StepPlan
from peft_lab.advise.plans import loop
from peft_lab.advise.plans.facts import NAME, ROWS, Facts, loads_alone, needed, refusal
from peft_lab.advise.plans.loop import HELD, PARTS
from peft_lab.advise.recipes.job import OBJECTIVES
from peft_lab.advise.recipes.recipe import LAB, Setting
from peft_lab.core import machine, units
from peft_lab.core.errors import Unsupported
from peft_lab.core.setting_words import told_rows, written_figure
from peft_lab.engine.sharding import tensor
from peft_lab.takeaway.calls import literal, quantisation_source
from peft_lab.takeaway.layout import WIDTH, Section, as_script, constants, printed
from peft_lab.takeaway.method_code import TRAINED, Applied, applied
from peft_lab.takeaway.snippet import hub_id
from peft_lab.training import batches, chats, losses, optimizers, packing

SEED = 0
#: As in the simulated step.
CLIP = 1.0


def script(facts: Facts) -> str:
    """Return the script's text. Raises Unsupported if :func:`refusal` has a reason."""
    reason = refusal(facts)
    if reason:
        raise Unsupported(reason, "method")
    how = applied(facts)
    sections = [
        _settings(facts),
        _data(facts),
        _base(facts, how),
        _together(facts),
        loop.telling_section(facts, SEED, CLIP),
        loop.section(facts),
        _saving(facts, how),
    ]
    return as_script(_header(facts, how), sections, ())


def _header(facts: Facts, how: Applied) -> str:
    plan = facts.plan
    needs = [*needed(facts), *how.libraries]
    ours = " PEFT Lab itself is needed for its method." if how.ours else ""
    columns = (
        "text and label"
        if facts.classifies
        else "text"
        if facts.objective == "cpt"
        else "prompt and completion"
    )
    start = f"torchrun --nproc-per-node {plan.devices} {NAME} {ROWS}"
    ranks, rows = _many(plan.devices, "rank"), _many(plan.batch, "packed row" if plan.packed else "row")
    about = textwrap.fill(
        f"Does exactly the plan: {ranks}, each with {rows} at once, sharding {plan.sharding}, "
        f"{'with' if plan.checkpointing else 'without'} gradient checkpointing. Rows are JSON lines with {columns}. "
        f"{_PACKED if plan.packed else ''}{_AWAY if plan.offload else ''}"
        f"{loop.HELD:.0%} of the rows are held out; after every tenth of the updates their loss is printed and a "
        "checkpoint is kept in the folder of the results. The same call again goes on from it. Without a GPU it "
        f"runs on the processor, in float32, for a trial.{ours}",
        WIDTH,
    )
    lines = (
        f"{facts.method.title} on {facts.entry.title}, {OBJECTIVES[facts.objective]}: a plan of PEFT Lab", "", about,
        "", f"    pip install {' '.join(dict.fromkeys(needs))}", f"    {start}",
    )  # fmt: skip
    return "\n".join(lines)


_AWAY = "What the backward pass needs waits in main memory. "
_PACKED = "Short rows fill a row together; attention and positions of each are its own. "


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _settings(facts: Facts) -> Section:
    plan = facts.plan
    rows = "packed rows" if plan.packed else "rows"
    lines = [
        f"MODEL = {literal(hub_id(facts.entry))}",
        "ROWS, OUT = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else 'out')",
        f"BATCH = {plan.batch}  # {rows} of a rank at once",
        f"UPDATE = {plan.batch * plan.readers * plan.accumulate}  # {rows} of one update, over all ranks",
        f"EPOCHS, RATE, WARMUP = {facts.said('epochs')}, {plan.learning_rate!r}, {facts.said('warmup')}",
        f"SCHEDULE = {literal(facts.said('schedule'))}",
        f"MAX_LENGTH = {plan.seq}  # tokens of a row",
        f"CLIP, SEED, WEIGHT_DECAY = {CLIP}, {SEED}, 0.0",
        f"HELD, PARTS = {loop.HELD}, {loop.PARTS}  # share of rows held out; parts after which all is kept",
        f"SHARDING = {literal(plan.sharding)}",
        "DEVICE = device_of_rank()",
        "RANK, WORLD = begin(DEVICE, SHARDING)",
        "DTYPE = torch.bfloat16 if DEVICE != 'cpu' else torch.float32",
        f"ACCUMULATE = math.ceil(UPDATE / {'BATCH' if facts.by_matrices else '(BATCH * WORLD)'})",
        *_SHARED[facts.by_matrices],
        "logging.set_verbosity_error()",
    ]
    imports = (
        "sys",
        "os",
        "math",
        "datetime:timedelta",
        "pathlib:Path",
        "torch",
        "transformers:logging",
        "transformers:set_seed",
    )
    functions = printed(machine.device_of_rank, loop.begin, loop.end)
    return Section("Settings", "Those of the plan.", f"{functions}\n\n" + "\n".join(lines), imports)


#: The script's check that an update's rows can be shared out; none where all ranks read the same rows.
_SHARED = {
    False: (
        "if UPDATE % WORLD:",
        "    raise SystemExit(f'{UPDATE} rows of an update cannot be shared by {WORLD} ranks.')",
    ),
    True: (),
}


def _data(facts: Facts) -> Section:
    shared: list[Any] = [batches.Encoded]
    if facts.classifies:
        shared.append(batches.encode_labels)
        code = (
            "texts = [row['text'] for row in rows]\nLABELS = sorted({row['label'] for row in rows})\n"
            "encoded = encode_labels(tokenizer, texts, [LABELS.index(row['label']) for row in rows], MAX_LENGTH)\n"
        )
    elif facts.objective == "cpt":
        code = (
            "ids = tokenizer([row['text'] + (tokenizer.eos_token or '') for row in rows], truncation=True, "
            "max_length=MAX_LENGTH)['input_ids']\nencoded = [Encoded(tuple(found), 0) for found in ids]\n"
        )
    elif facts.entry.kind == "seq2seq":  # the encoder reads the prompt, the decoder writes the completion
        shared.append(batches.encode_pairs)
        code = (
            "pairs = [row['prompt'] for row in rows], [row['completion'] for row in rows]\n"
            "START = AutoConfig.from_pretrained(MODEL).decoder_start_token_id\n"
            "encoded = encode_pairs(tokenizer, *pairs, MAX_LENGTH, START)\n"
        )
    else:
        shared += [batches.encode_completions, chats.opening, batches.render, batches.completion]
        code = (
            "pairs = [row['prompt'] for row in rows], [row['completion'] for row in rows]\n"
            "encoded = encode_completions(tokenizer, *pairs, MAX_LENGTH)\n"
        )
    named = constants(batches, "IGNORED", "WINDOW")
    before = (
        "rows = [json.loads(line) for line in ROWS.read_text('utf-8').splitlines() if line.strip()]\n"
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
        "if tokenizer.pad_token is None:\n    tokenizer.pad_token = tokenizer.eos_token\n"
        "PAD = tokenizer.pad_token_id or 0\n"
    )
    shared += [batches.wanted, batches.collate, batches.plan]
    if facts.plan.packed:
        shared += [packing.Packed, packing.fill, packing.collate_packed, packing.no_cache]
    functions = printed(*shared)
    imports = [
        "json", "random", "typing:Any", "dataclasses:dataclass", "collections.abc:Sequence", "collections.abc:Mapping",
        "collections.abc:Callable", "transformers:AutoConfig", "transformers:AutoTokenizer",
    ]  # fmt: skip
    return Section(
        "Rows",
        f"{'Tokens, rows that fill one together' if facts.plan.packed else 'Tokens'}, batches of like length, and "
        "their order.",
        f"{named}\n\n{functions}\n\n{before}{code}",
        (*imports, *(("bisect:bisect_left", "bisect:insort") if facts.plan.packed else ())),
    )


def _base(facts: Facts, how: Applied) -> Section:
    kind = {"causal-lm": "CausalLM", "encoder": "SequenceClassification", "seq2seq": "Seq2SeqLM"}[
        facts.entry.kind
    ]
    auto = f"AutoModelFor{kind}"
    imports = [f"transformers:{auto}", *how.imports]
    kept = "torch.float32" if facts.plan.remembered == "float32" else "DTYPE"
    options = f"dtype={kept}"  # with the model's own attention, as in the simulation
    labels = ", num_labels=len(LABELS)" if facts.classifies else ""
    prose, before = "", ""
    quantised = facts.method.quantization(facts.values)
    load = f"model = {auto}.from_pretrained(MODEL, {options}{labels})\n"
    if quantised is not None:
        imports.append("transformers:BitsAndBytesConfig")
        text = quantisation_source(quantised).replace("torch.bfloat16", "DTYPE")
        where = "DEVICE"
        if facts.sharded:
            storage = "    bnb_4bit_quant_storage=DTYPE,  # packed in numbers of the precision of all other weights\n"
            text = text.replace("(\n", f"(\n{storage}", 1)
            where = "'cpu'"
            prose = (
                "Every rank packs the model in main memory first and keeps its shards on its GPU. The packed bytes are "
                "stored as numbers of the computing precision: FSDP1 flattens a layer into one tensor of one floating "
                "precision, and FSDP2 takes such a layer too."
            )
        before = f"stored = {text}\n"
        load = (
            f"model = {auto}.from_pretrained(\n    MODEL, {options}{labels}, quantization_config=stored, "
            f"device_map={{'': {where}}}\n)\n"
        )
    elif loads_alone(facts.method, facts.plan):
        prose = (
            "The first rank loads the model into main memory. The others build its shape alone, and are sent what it "
            "holds layer by layer."
        )
        imports.append("contextlib:nullcontext")
        shape = f"AutoConfig.from_pretrained(MODEL{labels})"
        load = f"if RANK == 0:\n    {load}else:\n    model = {auto}.from_config({shape}, {options})\n"
    elif facts.by_matrices:
        prose = "Every rank loads the model into main memory first and keeps its shards on its GPU."
    checkpointing = (
        "model.config.use_cache = False\n"
        "model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={'use_reentrant': False})\n"
        if facts.plan.checkpointing
        else ""
    )
    if facts.plan.packed:
        checkpointing += "no_cache(model)\n"
    define = f"{how.define.strip()}\n\n\n" if how.define else ""
    seed = "set_seed(SEED)  # the same start on every rank\n"
    made = f"{load}{seed}{how.code}"
    if loads_alone(facts.method, facts.plan):
        made = "with nullcontext() if RANK == 0 else torch.device('meta'):\n" + textwrap.indent(made, "    ")
    return Section(
        facts.method.title,
        f"{facts.method.summary} {facts.method.paper}. {prose}".strip(),
        f"{define}{before}set_seed(SEED)\n{made}{checkpointing}",
        tuple(imports),
    )


def _together(facts: Facts) -> Section:
    chunked_code, imports, saved = "", tuple[str, ...](), ""
    if facts.plan.loss == "chunked":
        chunked_code = "without_logits(model)\n"
        imports = ("inspect", "transformers.loss.loss_utils:ForCausalLMLoss")
    computes = "DTYPE" if facts.plan.remembered == "float32" and facts.sharded else "None"
    functions = [loop.layers_of, loop.received, loop.spread] if facts.sharded else [loop.spread]
    if facts.by_matrices:
        functions = [tensor.split_styles, tensor.split_matrices, loop.spread]
    if facts.plan.loss == "chunked":
        functions = [losses.altered, losses.without_logits, losses.chunked_loss, *functions]
    alone = ", alone=True" if loads_alone(facts.method, facts.plan) else ""
    code = f"{chunked_code}model = spread(model, SHARDING, DEVICE, {computes}{alone})\n"
    prose = {
        "none": "One device has everything.",
        "tp": "Every rank has a part of each matrix, and all read the same rows: transformers' plan for the model, "
        "carried out by torch. What the ranks have of a layer's output is summed up in every layer, forward and "
        "backward.",
        "ddp": "Every rank has all of the model; gradients are averaged while the backward pass still runs.",
    }.get(
        facts.plan.sharding,
        "Every rank keeps a share of each layer's weights, gradients and moments. A layer is gathered when it computes "
        "and let go after it; activations are each rank's own and are not split.",
    )
    if facts.plan.offload:
        functions += [optimizers.to_host, optimizers.to_device, optimizers.offloading]
        prose += " What the backward pass needs waits in main memory meanwhile."
        saved = f"{constants(optimizers, 'LEAST')}\n\n"
    named = saved
    named += f"{constants(losses, '_ALTERS_LOGITS', '_BY_DEFAULT')}\n\n\n" if chunked_code else ""
    return Section("Ranks", prose, f"{named}{printed(*functions)}\n\n{code}", imports)


def _saving(facts: Facts, how: Applied) -> Section:
    full = facts.method.slug == "full"
    whole = not (facts.sharded or facts.by_matrices)
    own = not full and facts.call is None  # no library saves it
    if not whole:
        save = how.save.replace(TRAINED, "") if own else "model.save_pretrained(OUT, state_dict=state)\n"
        code = f"state = gathered(model)\nif RANK == 0:\n{textwrap.indent(save, '    ')}"
        functions = f"{printed(loop.gathered)}\n\n"
    else:
        save = "model.save_pretrained(OUT)\n" if full else how.save
        code = "model = getattr(model, 'module', model)\nif RANK == 0:\n" + textwrap.indent(save, "    ")
        functions = ""
    end = (
        "if RANK == 0:\n    tokenizer.save_pretrained(OUT)\n"
        "    CHECKPOINT.unlink(missing_ok=True)  # there is nothing left to go on with\n"
        "if RUN is not None and (OUT / 'adapter_config.json').exists() and not (RUN / 'adapter').exists():\n"
        "    (RUN / 'adapter').symlink_to(OUT.resolve(), target_is_directory=True)\n"
        "tell(RUN, 'done', message='')\n"
        "end(WORLD)\n"
    )
    imports = how.save_imports if own or (whole and not full) else ()
    return Section("Saving", "What was learned, by the first rank.", f"{functions}{code}{end}", imports)


# ----------------------------------------
# How many updates a plan's script makes, on which rows, and how often it evaluates on held-out rows.
#
# The same arithmetic as the script's (:mod:`peft_lab.advise.plans.loop`); a test runs both.


@dataclass(frozen=True)
class Course:
    """The counts of a whole training.

    Attributes:
        learned, held: rows that are trained on, and held-out rows.
        packed: rows of the step that ``learned`` fill; without packing, one per row, or per answer to it.
        updates: optimizer steps. looks: evaluations on the held-out rows, each of ``passes`` passes per device.
    """

    learned: int
    held: int
    packed: int
    updates: int
    looks: int
    passes: int


def course(
    rows: int, epochs: float, batch: int, devices: int, accumulate: int, packed: int = 0, group: int = 1
) -> Course:
    """Return the counts for ``rows`` rows, ``batch`` on a device at once and ``accumulate`` passes per update.

    Args:
        devices: those that read rows of their own. packed: rows of the step that all rows fill; 0: each is one.
        group: answers to each row, all of which are trained on.

    >>> course(1000, 2, batch=2, devices=4, accumulate=2)
    Course(learned=950, held=50, packed=950, updates=119, looks=11, passes=7)
    """
    held = max(1, round(rows * HELD)) if rows > 1 else 0
    learned = rows - held
    made = ceil(packed * learned / rows) if packed else learned * group
    updates = max(1, ceil(epochs * made / (batch * devices * accumulate)))
    looks = ceil(updates / max(1, updates // PARTS)) if held else 0
    return Course(learned, held, made, updates, looks, ceil(held / (batch * devices)))


def settled(plan: StepPlan, made: Course, packs: bool) -> StepPlan:
    """Return the plan with the number of steps and the packing that its script really has."""
    steps, asked = plan.settings["steps"], plan.settings.get("packing")
    rows = told_rows(made.learned, plan.group)
    if packs:
        rows += f", packed into {made.packed:,}"
    each = plan.batch * plan.readers * plan.accumulate
    why = (
        f"{rows}, {units.several(written_figure(plan.settings['epochs'].value), 'time')}, {each:,} a step. "
        f"{made.held:,} are held out."
    )
    settings = {**plan.settings, "steps": replace(steps, value=made.updates, why=why)}
    padded = "Rows are padded to the longest of their batch: how many fill a row together is not known here."
    if packs and asked is not None and asked.value is True:
        settings["packing"] = asked
    else:
        told = "As you set it." if packs else padded
        settings["packing"] = Setting("packing", packs, None, (), (), LAB, told, "")
    return replace(plan, settings=settings, packed=packs)
