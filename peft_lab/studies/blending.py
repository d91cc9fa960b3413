"""Blend LoRA adapters of one base, score the blends, and compare singular vectors of W + ΔW with W's.

``cat``, ``linear``, ``svd``, TIES and DARE are those of PEFT's ``add_weighted_adapter``. ``cat`` stacks the A and puts
the B side by side, so that the new correction is exactly w1·ΔW1 + w2·ΔW2 + …: task arithmetic (Ilharco et al. 2022,
arXiv 2212.04089). ``linear``, ``ties`` and ``dare`` add up A and B apart, so that their product also holds B1·A2.
:func:`knots` is written here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import chain, combinations, islice, product
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.asking import in_person
from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.methods import get_method
from peft_lab.models.catalogue import fitting_shapes
from peft_lab.models.loading import decoder_start, no_pickles
from peft_lab.models.meta import clean_path
from peft_lab.runs import store
from peft_lab.runs.kept import kept_adapter
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.takeaway.ship.adapter import read
from peft_lab.takeaway.ship.passport import base_of
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.base import Task

LEVELS = (0.5, 1.0)  # weights that a search tries
BEST = "best"  # in place of a way to blend: search for it and for the weights
SCORED = 12  # held-out rows of each task that are answered in writing
#: PEFT's combination type of each way to blend.
HOW = {how: how for how in ("cat", "linear", "svd", "ties", "ties_svd")}
HOW |= {"dare": "dare_linear", "dare_svd": "dare_linear_svd", "knots": "cat"}
MEANS = ("ties", "ties_svd", "knots")  # these divide by how many adapters agree; the others add up
APART = ("linear", "ties", "dare")  # these add up A and B apart, which takes equal ranks
DENSITY = 0.5  # share of the entries that TIES, DARE and KnOTS leave
SEED = 0  # of the entries that DARE drops
_MIX = "mix"
#: A blend: ``how``, ``weights``, ``rank``, ``scores``, and ``shares`` of the adapters' own scores.
Cell = dict[str, Any]


def problem(first: RunSpec, second: RunSpec) -> str:
    """Return why two runs cannot be blended; empty if they can."""
    if first.model != second.model:
        return (
            f"The runs have different base models, {first.model} and {second.model}. Choose two runs on one base "
            "model."
        )
    for spec in (first, second):
        values = spec.values
        if spec.method != "lora":
            return (
                f"Only LoRA adapters can be blended, but one run used '{spec.method}'. Choose two LoRA runs."
            )
        if values.get("use_dora"):
            return "DoRA rescales whole rows of W, so its adapters cannot be added. Choose runs without DoRA."
        if values.get("init_lora_weights") == "pissa":
            return "PiSSA changes the base, so the adapter fits no other base. Choose runs without PiSSA."
        if values.get("bias", "none") != "none":
            return "One run also trained biases, which PEFT cannot combine. Choose runs without them."
    one, two = first.task_object(), second.task_object()
    if (one.kind, one.labels) == (two.kind, two.labels):
        return ""
    return (
        f"'{one.name}' and '{two.name}' have different labels, so their heads cannot be combined. Choose two runs with "
        "the same labels."
    )


@dataclass(frozen=True)
class Part:
    """One adapter of a blend: its PEFT folder, a run on its base with its knobs, and the task it is scored on."""

    name: str
    folder: Path
    spec: RunSpec
    task: Task


def part_of_run(run: str) -> Part:
    """Return the adapter of a run. Raises RunError if there is none."""
    found = store.get(run)
    return Part(run, kept_adapter(found.folder), found.spec, found.spec.task_object())


def part_of_folder(name: str, folder: Path, task: str, model: str = "") -> Part:
    """Return the adapter in a PEFT folder; without ``model`` its base is the one that it names. Raises BadInput if
    there is no LoRA, or its base or task does not fit."""
    found = read(folder)
    base = base_of(found, model)
    if found.type != "LORA" or found.config.get("lora_bias") or base is None:
        raise BadInput(
            f"'{name}' is not a LoRA of a known base, or it has biases of its own. Name its base.", "adapter"
        )
    spec = RunRequest(base.name, "lora", task).complete()
    return Part(name, folder, replace(spec, values=found.config), spec.task_object())


class Bench:
    """A base in float32 with several adapters, which blends and scores them; ``examiners``: of each one's task."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Load the base and the adapters. Raises BadInput if they cannot be blended."""
        from peft import PeftModel
        from peft.utils import ModulesToSaveWrapper

        from peft_lab.runs.course import fresh_base
        from peft_lab.training.evaluation import Examiner

        for part in parts[1:]:
            if reason := problem(parts[0].spec, part.spec):
                raise BadInput(reason, "run")
        self.parts, self.names = parts, [str(number) for number in range(len(parts))]
        base = fresh_base(parts[0].spec, parts[0].task)
        with no_pickles(), fitting_shapes():
            self.model: Any = PeftModel.from_pretrained(base.model.float(), str(parts[0].folder), "0")
            for name, part in zip(self.names[1:], parts[1:], strict=True):
                self.model.load_adapter(str(part.folder), name)
        self._heads = []
        for wrapper in [each for each in self.model.modules() if isinstance(each, ModulesToSaveWrapper)]:
            saved = wrapper.modules_to_save
            self._heads.append((wrapper, [saved[name].state_dict() for name in self.names]))
            # PEFT refuses to combine adapters that each bring a module of their own, so the heads are mixed here.
            for name in self.names[1:]:
                del saved[name]
        self.examiners = [
            Examiner(part.task, base.tokenizer, part.spec.max_length, base.device, decoder_start(base.entry))
            for part in parts
        ]

    def layers(self) -> dict[str, Any]:
        """Return every linear map that has an adapter, by its path in the bare model."""
        from peft.tuners.lora import LoraLayer

        modules = self.model.named_modules()
        return {clean_path(path): module for path, module in modules if isinstance(module, LoraLayer)}

    def blend(self, how: str, weights: Sequence[float]) -> int:
        """Activate a blend, and return its rank. Adapters of weight 0 are left out; one alone is only scaled. Raises
        BadInput: all weights are 0, or the ranks differ and the way to blend needs equal ones."""
        chosen = {name: weight for name, weight in zip(self.names, weights, strict=True) if weight}
        configs = [self.model.peft_config[name] for name in chosen]
        if not chosen:
            raise BadInput("All weights are 0. Give at least one adapter a weight other than 0.", "weights")
        if how not in ways(configs):
            raise BadInput(
                f"'{how}' needs adapters of equal rank. Use 'cat', 'svd', 'ties_svd' or 'knots'.", "how"
            )
        if _MIX in self.model.peft_config:
            self.model.set_adapter("0")
            self.model.delete_adapter(_MIX)
        torch.manual_seed(SEED)
        options: dict[str, Any] = {"density": DENSITY, "svd_full_matrices": False}
        self.model.add_weighted_adapter([*chosen], [*chosen.values()], _MIX, HOW[how], **options)
        for layer in self.layers().values():
            layer.scaling[_MIX] = (
                1.0  # with rsLoRA, PEFT 0.21 would scale twice (huggingface/peft, issue 3449)
            )
            names = [name for name in chosen if name in layer.lora_A]
            if how == "knots" and len(names) > 1:
                a, b = knots([_factors(layer, name) for name in names], [chosen[name] for name in names])
                layer.lora_A[_MIX].weight.data.zero_()[: len(a)] = a
                layer.lora_B[_MIX].weight.data.zero_()[:, : len(a)] = b
        self.model.set_adapter(_MIX)
        for wrapper, heads in self._heads:
            pairs = [*zip(weights, heads, strict=True)]
            mixed = {key: sum(weight * head[key] for weight, head in pairs) for key in heads[0]}
            wrapper.modules_to_save[_MIX].load_state_dict(mixed)
        self.model.eval()
        return int(self.model.peft_config[_MIX].r)

    def cell(self, how: str, weights: Sequence[float], alone: Sequence[float]) -> Cell:
        """Blend, and score the blend on each adapter's task. ``alone``: the adapters' own scores."""
        rank, scores = self.blend(how, weights), self.scores(range(len(self.parts)))
        shares = [score / (own or 1) for score, own in zip(scores, alone, strict=True)]
        return {"how": how, "weights": [*weights], "rank": rank, "scores": scores, "shares": shares}

    def scores(self, numbers: Sequence[int]) -> list[float]:
        """Return the metrics of what is active on the tasks of these adapters; texts are written in one batch."""
        rows = [list(self.parts[number].task.load().test[:SCORED]) for number in numbers]
        pairs = [*zip((self.examiners[number] for number in numbers), rows, strict=True)]
        if not pairs[0][0].task.writes:
            return [one.evaluate(self.model, them).metrics[one.task.metric] for one, them in pairs]
        prompts = self.examiners[0].prepare([row.turns or row.text for row in chain(*rows)])
        new = max(one.task.max_new_tokens for one, _ in pairs)
        written, found = iter(self.examiners[0].write(self.model, prompts, new)), []
        for one, them in pairs:
            tokens = [row[: one.task.max_new_tokens] for row in islice(written, len(them))]
            answers = one.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            found.append(one.task.score([str(answer) for answer in answers], them)[one.task.metric])
        return found

    def losses(self, numbers: Sequence[int], count: int) -> list[float]:
        """Return the loss of what is active on ``count`` held-out rows of these adapters' tasks."""

        from peft_lab.training import batches

        losses = []
        for one in [self.examiners[number] for number in numbers]:
            rows = one.task.load().test[:count]
            encoded = batches.encode(one.task, rows, one.tokenizer, one.max_length, one.start)
            batch = batches.collate(encoded, one.pad, one.device)
            with torch.no_grad():
                losses.append(float(batches.loss_of(self.model, batch)))
        return losses

    def overlaps(self) -> list[dict[str, Any]]:
        """Return, for each pair of adapters and each map of both, its path as ``module`` and the overlap of what the
        adapters read (``A``) and write (``B``).
        """
        rows = []
        for module, layer in self.layers().items():
            held = {name: _factors(layer, name) for name in self.names if name in layer.lora_A}
            for one, two in combinations(held, 2):
                (a, b), (c, d) = held[one], held[two]
                pair = [self.parts[int(name)].name for name in (one, two)]
                rows.append({"pair": pair, "module": module, "A": overlap(a.T, c.T), "B": overlap(b, d)})
        return rows


def _factors(layer: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A, (r, d_in), and B, (d_out, r), the latter with the adapter's scale."""
    return layer.lora_A[name].weight.data, layer.lora_B[name].weight.data * layer.scaling[name]


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the mean squared cosine of the principal angles between two column spaces: 1 if one holds the other.
    ``first``, ``second``: (d, r), of full rank. Random ones of r columns overlap by r / d in the mean."""
    one, two = (torch.linalg.qr(matrix.float()).Q for matrix in (first, second))
    return float((one.T @ two).square().sum() / min(one.shape[1], two.shape[1]))


def knots(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], weights: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend corrections in a basis that they share: [ΔW1 … ΔWn] = U S [V1 … Vn]; TIES blends the S Vi. KnOTS (Stoica et
    al. 2024, arXiv 2410.19735; github.com/gstoica27/KnOTS, task_merger.py). Of each correction and of the blend: A,
    (r, d_in), and B, (d_out, r), scaled."""
    from peft.utils.merge_utils import ties

    basis, rest = torch.linalg.qr(torch.cat([b for _, b in pairs], 1))
    beside = torch.block_diag(*(a for a, _ in pairs))
    left, values, right = torch.linalg.svd(rest @ beside, full_matrices=False)
    aligned = list((values[:, None] * right).chunk(len(pairs), 1))
    return ties(aligned, torch.tensor(weights), DENSITY), basis @ left


def ways(configs: Sequence[Any]) -> list[str]:
    """Return the ways that blend adapters of these PEFT configs."""
    even = len({one.r for one in configs}) == 1 and not any(one.rank_pattern for one in configs)
    return [how for how in HOW if even or how not in APART]


def worth(cell: Cell) -> tuple[float, float]:
    """Return the worst share of the adapters that have a weight, and the sum of their shares: higher is better."""
    shares = [share for share, weight in zip(cell["shares"], cell["weights"], strict=True) if weight]
    return min(shares, default=0.0), sum(shares)


def search(bench: Bench, alone: Sequence[float]) -> list[Cell]:
    """Try weights in the exact sum, then the other ways at the best of them. Return what was tried, best first."""
    fitting = ways([bench.model.peft_config[name] for name in bench.names])
    cells = [bench.cell("cat", weights, alone) for weights in product(LEVELS, repeat=len(bench.parts))]
    best, whole = max(cells, key=worth)["weights"], cells[-1]["weights"]
    cells += [bench.cell(how, whole if how in MEANS else best, alone) for how in fitting[1:]]
    return sorted(cells, key=worth, reverse=True)


def measure(parts: Sequence[Part], how: str, weights: Sequence[float]) -> dict[str, Any]:
    """Return a blend's ``method``, ``weights``, ``rank``, its ``scores`` by adapter, ``alone`` and ``blended``,
    ``overlap`` (:meth:`Bench.overlaps`) and what was ``tried``, best first: with :data:`BEST` what is recorded of
    shipped adapters, or a search. Raises BadInput if the adapters cannot be blended.
    """
    if len({part.name for part in parts}) < len(parts):
        raise BadInput("Two adapters have the same name. Name each once.", "adapters")
    bench, numbers, alone = Bench(parts), range(len(parts)), list[float]()
    for number in numbers:
        bench.blend("cat", [float(number == other) for other in numbers])
        alone += bench.scores([number])
    tried = known(parts) if how == BEST else [bench.cell(how, weights, alone)]
    best = (tried := tried or search(bench, alone))[0]
    pairs = zip(parts, alone, best["scores"], strict=True)
    scores = {part.name: {"alone": own, "blended": score} for part, own, score in pairs}
    found = {"method": best["how"], "weights": best["weights"], "rank": best["rank"], "scores": scores}
    return {**found, "overlap": bench.overlaps(), "tried": tried}


# ----------------------------------------
# Three shipped adapters and their recorded blends; ``shipped/README.md`` says how they were made and what is recorded.


SHIPPED = Path(__file__).with_name("shipped")
#: What each adapter was trained on.
TASKS = {"orders": "json", "style": "style", "fields": "fields"}


def shipped_part(name: str) -> Part:
    """Return a shipped adapter. Raises AssetError if the base's weights have to be fetched first."""
    part = part_of_folder(name, SHIPPED / name, TASKS["orders"])
    # One task is for encoder-decoders in the app; this decoder learned it from a file of the same rows.
    return replace(part, task=get_task(TASKS[name]))


@cache
def recorded() -> tuple[dict[str, Any], list[Cell]]:
    """Return what all blends share, and the blends, each with its scores as ``shares`` of the own adapters' scores."""
    about, cells = disk.read_json(SHIPPED / "about.json"), disk.read_json_lines(SHIPPED / "blends.jsonl")
    about["sums"] = disk.read_json(SHIPPED / "sums.json")  # a published result, repeated by bench.sums
    ones = [cell for cell in cells if sum(cell["weights"]) == max(cell["weights"]) == 1]
    own = {cell["weights"].index(1.0): cell["scores"] for cell in ones}
    about["alone"] = [own[number][number] for number in range(len(TASKS))]
    for cell in cells:
        cell["shares"] = [score / alone for score, alone in zip(cell["scores"], about["alone"], strict=True)]
    return about, cells


def nearest(how: str, weights: Sequence[float]) -> Cell:
    """Return the recorded blend of this kind that is nearest; one adapter alone, and none, are of every kind."""
    fitting = [cell for cell in recorded()[1] if cell["how"] == how or sum(map(bool, cell["weights"])) < 2]
    return min(fitting, key=lambda cell: math.dist(cell["weights"], weights))


def best() -> dict[tuple[int, ...], list[Cell]]:
    """Return the best recorded blend of each way, best first, by which adapters are blended."""
    groups: dict[tuple[int, ...], dict[str, Cell]] = {}
    for cell in sorted(recorded()[1], key=worth, reverse=True):
        members = tuple(number for number, weight in enumerate(cell["weights"]) if weight)
        if len(members) > 1:
            groups.setdefault(members, {}).setdefault(cell["how"], cell)
    return {members: [*cells.values()] for members, cells in groups.items()}


def known(parts: Sequence[Part]) -> list[Cell]:
    """Return the best recorded blend of each way of these adapters; nothing if one of them is not shipped."""
    places = [[*TASKS].index(part.name) for part in parts if part.folder.parent == SHIPPED]
    cells = best().get(tuple(sorted(places)), []) if len(places) == len(parts) else []
    lists = ("weights", "scores", "shares")
    return [{**cell, **{name: [cell[name][at] for at in places] for name in lists}} for cell in cells]


def measure_shipped(how: str, weights: Sequence[float]) -> dict[str, Any]:
    """Blend the shipped adapters and score the blend (:func:`measure`)."""
    return measure([shipped_part(name) for name in TASKS], how, weights)


# The tuned matrix is the merged one, so it includes DoRA's rescaled rows and PiSSA's changed base.


def ask_intruders(identity: str) -> Future[list[dict[str, Any]]]:
    """Submit :func:`compare_intruders` to the inspector process and return its future."""
    from peft_lab.core import inspector

    return inspector.get_inspector(inspector.Worker.ANSWERS).submit(compare_intruders, identity)


@in_person
def compare_intruders(identity: str) -> list[dict[str, Any]]:
    """Compare every adapted matrix of a run before and after training.

    Returns:
        one row per matrix: ``module``, ``shape`` (d_out, d_in), and the fields of
        :class:`peft_lab.methods.recording.recorder.Intruders` with ``found``, the indices of its intruders.

    Raises:
        RunError: there is no such run, or it has no adapter.
    """

    from peft_lab.methods.lora.recording import layers
    from peft_lab.methods.recording.recorder import compare_singular_vectors as compare
    from peft_lab.runs.course import fresh_base

    run = store.get(identity)
    folder = kept_adapter(run.folder)
    base: Any = fresh_base(run.spec, run.spec.task_object()).model.float()
    names = {clean_path(key.partition(".lora_A")[0]) for key in read(folder).tensors if ".lora_A" in key}
    before = {name: module.weight.detach().clone() for name, module in base.named_modules() if name in names}
    model: Any = get_method(run.spec.method).load(base, folder)
    rows = []
    with torch.no_grad():
        for path, module in layers(model):
            module.merge()
            weight, tuned = before[path], module.get_base_layer().weight.float()
            if module.fan_in_fan_out:  # GPT-2's matrices are stored transposed
                weight, tuned = weight.T, tuned.T
            seen = compare(weight, tuned - weight)
            rows.append({"module": path, "shape": list(weight.shape), **asdict(seen), "found": seen.found})
    return rows
