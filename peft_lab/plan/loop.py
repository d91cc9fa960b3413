"""The loop of a plan's script: updates over many ranks, a look at held-out rows, and checkpoints to go on from."""

from __future__ import annotations

from peft_lab.export.layout import Section
from peft_lab.export.source import printed
from peft_lab.plan import keeping, spread
from peft_lab.plan.facts import Facts
from peft_lab.training import precision, schedule, step, together

_RATE = "lr=RATE, weight_decay=WEIGHT_DECAY"
_OPTIMIZERS = {
    "adamw": ("torch.optim.AdamW(masters.parameters, <RATE>)", "torch"),
    "adamw8bit": ("bitsandbytes.optim.AdamW8bit(masters.parameters, <RATE>)", "bitsandbytes"),
    "paged_adamw8bit": ("bitsandbytes.optim.PagedAdamW8bit(masters.parameters, <RATE>)", "bitsandbytes"),
    "paged_adamw": ("bitsandbytes.optim.PagedAdamW(masters.parameters, <RATE>)", "bitsandbytes"),
    "adafactor": ("torch.optim.Adafactor(masters.parameters, <RATE>)", "torch"),
    "muon": ("MuonBesideAdamW(masters.parameters, outside_layers(model), <RATE>)", "torch"),
    "lorafa": (
        "create_lorafa_optimizer(\n    model, r=model.active_peft_config.r, "
        "lora_alpha=model.active_peft_config.lora_alpha, <RATE>\n)",
        "peft.optimizers:create_lorafa_optimizer",
    ),
    "sgd": ("torch.optim.SGD(masters.parameters, lr=RATE)", "torch"),
}


def section(facts: Facts) -> Section:
    """What the script does between loading and saving."""
    optimizer, library = _OPTIMIZERS[facts.plan.optimizer]
    optimizer = optimizer.replace("<RATE>", _RATE)
    own = [together.outside_layers, together.MuonBesideAdamW] if facts.plan.optimizer == "muon" else []
    rate = "1.0" if facts.said("schedule") == "constant" else "rate_at(number, STEPS, WARMUP, SCHEDULE)"
    autocast = facts.plan.remembered == "float32" and not facts.sharded
    mixed = "torch.autocast(DEVICE.partition(':')[0], DTYPE, enabled=DTYPE != torch.float32)"
    functions = printed(
        *own, precision.InPlace, schedule.rate_at, step.nobody, step.train_step, spread.shares, spread.predicted,
        spread.update_loss, spread.averaged, keeping.held_out, keeping.held_loss, keeping.counted, keeping.kept_state,
        keeping.put_back, keeping.keep, keeping.kept,
    )  # fmt: skip
    tokens = "predicted(parts, <READERS>)" if facts.entry.kind == "causal-lm" else "0"
    loop = (
        _LOOP.replace("<OPTIMIZER>", optimizer).replace("<RATE>", rate)
        .replace("<TOKENS>", tokens).replace("<MIXED>", mixed if autocast else "nullcontext()")
        .replace("<FIRST>", "1" if facts.entry.kind == "causal-lm" else "0")
        .replace("<SHARDED>", "WORLD > 1" if facts.sharded or facts.by_matrices else "False")
        .replace("<READS>", "0, 1" if facts.by_matrices else "RANK, WORLD")
        .replace("<READERS>", "1" if facts.by_matrices else "WORLD")
        .replace("<OWN>", "" if facts.by_matrices else " + RANK")
        .replace("<AWAY>", ", offloading(model)" if facts.plan.offload else "")
        .replace("<PACK>", _PACK if facts.plan.packed else "")
        .replace("<COLLATE>", "collate_packed" if facts.plan.packed else "collate")
    )  # fmt: skip
    prose = (
        "An update's loss is the mean over all its tokens, whichever rank and pass they are in, so that as many ranks "
        "as you like learn the same."
        if facts.entry.kind == "causal-lm"
        else "An update's loss is the mean over its passes and ranks."
    )
    imports = (library, "hashlib", "contextlib:nullcontext", "collections.abc:Callable")
    return Section("Training", prose, f"Phase = Callable[[str], None]\n\n\n{functions}\n\n{loop}", imports)


_PACK = """\
learned = [Packed(tuple(learned[row] for row in rows)) for rows in fill([len(row) for row in learned], MAX_LENGTH)]
if RANK == 0:
    print(len(learned), "packed rows", flush=True)
"""
_LOOP = """\
held = held_out(len(encoded), HELD, SEED)
apart = set(held)
learned = [row for number, row in enumerate(encoded) if number not in apart]
<PACK>STEPS = max(1, math.ceil(EPOCHS * len(learned) / UPDATE))
EVERY = max(1, STEPS // PARTS)  # updates between two looks at the held-out rows and two checkpoints
order = plan([len(row) for row in learned], STEPS, UPDATE, SEED)
model.train()
masters = InPlace([parameter for parameter in model.parameters() if parameter.requires_grad])
optimizer = <OPTIMIZER>
set_seed(SEED<OWN>)  # of dropout
losses = []


def look():
    # every rank makes as many passes as the others; one that has no rows left reads some that do not count
    passes = shares(held, <READS>, BATCH)
    parts = [collate([encoded[row] for row in part or held[:1]], PAD, DEVICE) for part in passes]
    weights = [counted(part["labels"], <FIRST>) * bool(rows) for part, rows in zip(parts, passes)]
    with <MIXED>:
        return held_loss(model, parts, weights, WORLD)


CHECKPOINT, SHARDED = OUT / "checkpoint.pt", <SHARDED>
SAME = {"rows": hashlib.sha256(ROWS.read_bytes()).hexdigest(), "steps": STEPS, "update": UPDATE, "ranks": WORLD}
state = kept(CHECKPOINT, SAME, RANK)
if state:
    put_back(model, optimizer, state, SHARDED)
    losses = state["losses"]
trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
found = {"trainable": trainable, "total": TOTAL, "dtype": str(DTYPE)[6:], "device": DEVICE}
found |= {"rows": len(encoded) - len(held), "learning_rate": RATE}
begin_telling(RUN, {**SPEC, "steps": STEPS, "own_data": str(ROWS.resolve())}, found, len(losses))
for number, chosen in list(enumerate(order))[len(losses) :]:
    begun = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = RATE * <RATE>
    parts = [<COLLATE>([learned[row] for row in part], PAD, DEVICE) for part in shares(chosen, <READS>, BATCH)]
    tokens = <TOKENS>

    def loss_of(model, parts):
        with <MIXED><AWAY>:
            return update_loss(model, parts, tokens, <READERS>)

    loss, norm = train_step(model, parts, loss_of, masters, optimizer, CLIP)
    losses.append(averaged(loss, WORLD))
    norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # asked of all ranks
    if RANK == 0:
        print(f"step {number + 1:5d} of {STEPS}   loss {losses[-1]:.6f}", flush=True)
        made = {"step": number + 1, "loss": losses[-1], "lr": optimizer.param_groups[0]["lr"], "grad_norm": norm}
        read = sum(len(learned[row]) for row in chosen)
        tell(RUN, "step", **made, tokens=read, seconds=time.perf_counter() - begun, tracked=False)
    if (number + 1) % EVERY == 0 or number + 1 == STEPS:
        beyond = look() if held else math.nan
        state = {**kept_state(model, optimizer, SHARDED), "losses": losses, "same": SAME}
        keep(CHECKPOINT, state, DEVICE, RANK, WORLD)
        if RANK == 0 and held:
            print(f"step {number + 1:5d} of {STEPS}   held-out loss {beyond:.6f}", flush=True)
"""
