"""Say what each engine does with an adapter on a base, from its config and its tensors' shapes, without weights.

What engines do is data: rules in ``engines.yaml`` and their conditions in ``conditions.yaml``. Start with
:func:`passport`, or :func:`served_by` for one line about a config.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from peft_lab.core import asking, disk
from peft_lab.core.content import read_entries, read_table
from peft_lab.core.errors import BadInput
from peft_lab.models.assets.store import owner_of
from peft_lab.models.catalogue import catalogue, known_base, resolve
from peft_lab.models.own import is_folder
from peft_lab.models.shapes import ModelEntry
from peft_lab.takeaway.ship.adapter import Adapter, read_json

#: ``wrong``: it loads, and answers wrongly. ``unknown``: the engine's sources did not show it. The gravest first.
State = Literal["refused", "wrong", "unknown", "change", "runs"]
STATES: tuple[State, ...] = ("refused", "wrong", "unknown", "change", "runs")
#: Changes that we make as files, the mildest first; the last two merge.
MADE = {
    "gguf": "a GGUF adapter", "mlx": "MLX's files", "ollama": "GGUF and a Modelfile", "merged": "the merged model",
}  # fmt: skip
SHARED = ("common", "others")  # entries whose rules hold for all engines, and for all but PEFT
PREFIX = "base_model.model."
_MODEL = "another model"
#: That vLLM's --max-lora-rank takes (vllm/config/lora.py, 0.32).
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Rule:
    """What an engine does if a condition holds. ``words``: the engine's own, empty if it says nothing. In a verdict
    the texts name what was found, and ``source`` the engine's version and address."""

    when: str
    verdict: State
    what: str
    file: str
    symbol: str
    words: str = ""
    change: str = ""
    source: str = ""

    @property
    def where(self) -> str:
        """Return file and symbol."""
        return f"{self.file}, {self.symbol}"


@dataclass(frozen=True)
class Engine:
    """One engine at one version. ``models``: types of ``config.json`` found to take LoRA there; empty if all do.
    ``without``: those that it runs without LoRA. ``unknown``: what its sources did not show."""

    name: str
    title: str
    version: str
    read_in: str
    address: str
    rules: tuple[Rule, ...]
    place: str = ""
    command: str = ""
    models: tuple[str, ...] = ()
    models_in: str = ""
    without: tuple[str, ...] = ()
    without_in: str = ""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What an engine answered with an adapter of this kind on a tiny ``model``, beside PEFT (``make engines``).
    ``difference``: the largest of a first token's log-probability."""

    same: bool
    equal: int
    prompts: int
    difference: float
    model: str
    package: str
    date: str

    def __str__(self) -> str:
        answers = "Same answers" if self.same else f"{self.equal} of {self.prompts} answers the same"
        return f"{answers}, measured on {self.date} with {self.package} on a tiny {self.model}"


@dataclass(frozen=True)
class Verdict:
    """What one engine does with the adapter. ``reasons``: the deciding first. ``change``: a file of :data:`MADE` by
    name, an option of the engine, or another tool; empty if nothing has to change, or nothing helps. ``measured``:
    after the change, if it is a file of the engine; ``None`` if such an adapter was not run."""

    engine: str
    version: str
    verdict: State
    reasons: tuple[Rule, ...]
    change: str
    command: str
    measured: Measured | None = None

    def row(self) -> dict[str, Any]:
        """Return the verdict for the command line."""
        shown = ("verdict", "what", "words", "where", "source")
        reasons = [{name: getattr(reason, name) for name in shown} for reason in self.reasons]
        return {**asdict(self), "reasons": reasons, "unknown": list(engines()[self.engine].unknown)}


@dataclass(frozen=True)
class Condition:
    """A condition of ``conditions.yaml``, which explains the fields."""

    name: str
    field: str = ""
    unlike: tuple[str, ...] | None = None
    text: bool = False
    absent: tuple[str, ...] = ()
    tensor: str = ""
    no_tensor: str = ""
    other_tensor: str = ""
    file: str = ""
    types: tuple[str, ...] = ()
    not_types: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def found(self, seen: Seen) -> str | None:
        """Return the detail if the condition holds, else ``None``."""
        kind, model = seen.adapter.type, seen.base.shape.model_type if seen.base else ""
        if (self.types and kind not in self.types) or kind in self.not_types:
            return None
        if (self.models and model not in self.models) or (self.file and self.file not in seen.adapter.names):
            return None
        if self.absent:
            lacking = [name for name in self.absent if name not in seen.adapter.config]
            return "{" + ", ".join(map(repr, lacking)) + "}" if lacking else None
        if self.field:
            return self._field(seen.adapter.config.get(self.field))
        if self.other_tensor:
            return next((name for name in seen.names if not re.search(self.other_tensor, name)), None)
        if self.tensor:
            hits = [match for name in seen.names if (match := re.search(self.tensor, name))]
            barred = self.no_tensor and any(re.search(self.no_tensor, name) for name in seen.names)
            return None if barred or not hits else str(next(filter(None, hits[0].groups()), ""))
        return kind or "of no stated type"

    def _field(self, value: Any) -> str | None:
        """Return a field's value as text, of a list the first entries; ``None`` if it is off, or one of ``unlike``."""
        if value is None or (self.text and not isinstance(value, str)):
            return None
        if isinstance(value, Mapping | list | tuple):
            kept = [str(each) for each in value if str(each) not in (self.unlike or ())]
            return some(kept) if kept or self.unlike == () else None
        off = str(value).lower() in self.unlike if self.unlike is not None else not value
        return None if off else str(value)


@cache
def _file() -> dict[str, Engine]:
    return read_table([Path(__file__).with_name("engines.yaml")], Engine, "name")


@cache
def _conditions() -> dict[str, Callable[[Seen], str | None]]:
    stated = read_entries(Path(__file__).with_name("conditions.yaml"), Condition)
    return {**{one.name: one.found for one in stated}, **CONDITIONS}


def engines() -> dict[str, Engine]:
    """Return the engines by name."""
    return {name: engine for name, engine in _file().items() if name not in SHARED}


def base_of(adapter: Adapter, named: str = "") -> ModelEntry | None:
    """Return the base: the one named, else the one that the adapter names; ``None`` if that is not known here. Raises
    BadInput if no model is called ``named``, or its config cannot be read."""
    if named:
        folder = named not in catalogue() and is_folder(named)  # its last part may be another model's name
        return resolve(owner_of(named) or named) if folder else known_base(named) or resolve(named)
    try:
        return known_base(adapter.base) or (resolve(adapter.base) if adapter.base else None)
    except BadInput:
        return None


# ----------------------------------------
# An adapter on its base, as the conditions see it.


class Seen:
    """An adapter on its base (``None``: not known)."""

    def __init__(self, adapter: Adapter, base: ModelEntry | None) -> None:
        self.adapter, self.base = adapter, base

    @cached_property
    def names(self) -> list[str]:
        """Return the tensors' names; without tensors, those that LoRA gives its targets, or one of another type."""
        if self.adapter.tensors or self.adapter.type != "LORA":
            return list(self.adapter.tensors) or ["tensors of its own type"]
        targets = self.adapter.config.get("target_modules")
        known = targets if isinstance(targets, list | tuple) else ()
        return [f"{PREFIX}model.layers.0.{name}.lora_{side}.weight" for name in known for side in "AB"]

    @cached_property
    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the shapes of LoRA's A and B by the module's path in the base, without experts' parameters."""
        found: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for name, tensor in self.adapter.tensors.items():
            match = re.fullmatch(r"(?P<path>.+?)\.lora_(?P<side>[AB]|embedding_[AB])(\.weight)?", name)
            if match and not re.search(r"\.experts(\.base_layer)?$", match["path"]):
                found[match["path"].removeprefix(PREFIX)][match["side"]] = tensor.shape
        return dict(found)

    @cached_property
    def kinds(self) -> dict[str, set[str]]:
        """Return the layers of each adapted kind of matrix, such as ``q_proj``."""
        found: dict[str, set[str]] = defaultdict(set)
        for path in self.shapes:
            found[path.rpartition(".")[2]].update(re.findall(r"\.(\d+)\.", path)[:1])
        return found

    @cached_property
    def ranks(self) -> list[int]:
        """Return LoRA's ranks in order, by the tensors or else by the config."""
        stored = {parts["A"][0] for parts in self.shapes.values() if len(parts.get("A", ())) == 2}
        pattern = self.adapter.config.get("rank_pattern")
        named = [self.adapter.config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
        ranks = stored or {rank for rank in named if type(rank) is int and rank > 0}
        return sorted(ranks) if self.adapter.type == "LORA" else []

    @cached_property
    def misfits(self) -> tuple[list[str], list[tuple[str, bool]]]:
        """Return the modules that the base does not have; and those of another shape, as text, with whether a side is
        larger than the base's."""
        absent, other = [], []
        loose = self.base is not None and self.base.kind != "causal-lm"  # a head may stand around it
        known = {
            path: group for group in (self.base.shape.groups if self.base else ()) for path in group.paths
        }
        ends = {path.split(".", 1)[-1]: group for path, group in known.items()} if loose else {}
        for path, parts in self.shapes.items() if self.base else ():
            end = path.split(".", 1)[-1]
            group = known.get(path) or (known.get(end) or ends.get(path) or ends.get(end) if loose else None)
            if group is None:
                absent.append(path)
            elif "weight" in group.parameters and len(parts.get("A", ())) == len(parts.get("B", ())) == 2:
                stored, wanted = (parts["B"][0], parts["A"][1]), (group.out_features, group.in_features)
                text = f"{path} is {stored[0]} × {stored[1]}, but the base's is {wanted[0]} × {wanted[1]}"
                if stored != wanted:
                    other.append((text, any(one > two for one, two in zip(stored, wanted, strict=True))))
        special = any(
            self.adapter.config.get(name) for name in ("use_bdlora", "use_qalora", "layer_replication")
        )
        return absent, [] if special else other

    @property
    def merges(self) -> bool:
        """Return whether PEFT merges the adapter into its base."""
        stated = _conditions()
        apart = any(stated[name](self) is not None for name in ("aLoRA", "Arrow"))
        return stated["type that merges"](self) is not None and not apart


def some(values: Any) -> str:
    """Return the first entries of a list as text."""
    names = [str(value) for value in values]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _some_layers(s: Seen) -> str | None:
    total = s.base.shape.num_layers if s.base else max(map(len, s.kinds.values()), default=0)
    part = [kind for kind, layers in s.kinds.items() if 0 < len(layers) < total]
    return some(part) or None


def _padded(s: Seen) -> str | None:
    rank = max(s.ranks, default=0)
    padded = 8 if rank <= 8 else -(-rank // 16) * 16
    return f"rank {rank} becomes {padded}" if rank and padded != rank and len(s.kinds) > 1 else None


def _vocabulary(s: Seen) -> str | None:
    rows = s.base.shape.vocab if s.base else 0
    stored = {path: parts["embedding_A"][-1] for path, parts in s.shapes.items() if parts.get("embedding_A")}
    for name, tensor in s.adapter.tensors.items():
        if re.search(r"(embed_tokens|wte|lm_head)\.weight$", name) and tensor.shape:
            stored[name] = tensor.shape[0]
    other = next(((path, size) for path, size in stored.items() if rows and size != rows), None)
    return f"{other[0].removeprefix(PREFIX)} has {other[1]:,} rows, the base has {rows:,}" if other else None


def _new_tokens(s: Seen) -> str | None:
    rows, file = s.base.shape.vocab if s.base else 0, "added_tokens.json"
    added = read_json(file, s.adapter.take(file)) if file in s.adapter.names else {}
    known = added.items() if isinstance(added, dict) else ()
    return some([token for token, at in known if type(at) is int and at >= rows]) or None


def _another_base(s: Seen) -> str | None:
    known = known_base(str(s.adapter.config.get("base_model_name_or_path") or ""))
    served = s.base and (known_base(s.base.name) or s.base)
    return known.title if known and served and known.name != served.name else None


def _another_revision(s: Seen) -> str | None:
    theirs, ours = str(s.adapter.config.get("revision")), str(s.base.revision if s.base else "")
    both = all(re.fullmatch("[0-9a-f]{40}", text) for text in (theirs, ours))
    return theirs[:8] if both and theirs != ours else None


def tied_end(s: Seen) -> str | None:
    """Return the module that is adapted, embedding or head, of a base whose head is its embedding."""
    groups = s.base.shape.groups if s.base else ()
    tied = any(group.tied for group in groups if group.path.endswith(("lm_head", "embed_out")))
    ends = (re.search(r"([^.]+)\.lora_embedding_A|(lm_head|embed_out)\.lora_A", name) for name in s.names)
    return next((match[1] or match[2] for match in ends if match), None) if tied else None


def _quantised(s: Seen) -> str | None:
    how = s.base.config.get("quantization_config") if s.base else None
    return str(how.get("quant_method", "")) if isinstance(how, dict) else None


def _shape(*larger: bool) -> Callable[[Seen], str | None]:
    return lambda s: next((text for text, is_larger in s.misfits[1] if is_larger in larger), None)


def _rank_over(limit: int) -> Callable[[Seen], str | None]:
    return lambda s: str(s.ranks[-1]) if s.ranks and s.ranks[-1] > limit else None


#: The conditions that need more than ``conditions.yaml`` can say, by name; each returns its detail, or ``None``.
CONDITIONS: Mapping[str, Callable[[Seen], str | None]] = {
    "always": lambda s: "",
    "rank over 16": _rank_over(16),
    "rank over 512": _rank_over(512),
    "ranks that differ": lambda s: f"{s.ranks[0]} to {s.ranks[-1]}" if len(s.ranks) > 1 else None,
    "ranks that are padded": _padded,
    "some layers only": _some_layers,
    "some modules not in the base": lambda s: some(s.misfits[0]) or None,
    "no module of the base": lambda s: (
        some(s.misfits[0]) if s.shapes and len(s.misfits[0]) == len(s.shapes) else None
    ),
    "other shapes than the base": _shape(True, False),
    "smaller than the base": _shape(False),
    "larger than the base": _shape(True),
    "embedding of another size": _vocabulary,
    "new tokens": _new_tokens,
    "tied end": tied_end,
    "another base": _another_base,
    "another revision": _another_revision,
    "quantised base": _quantised,
}

# ----------------------------------------
# The verdicts.


def passport(adapter: Adapter, base: ModelEntry | None = None) -> tuple[Verdict, ...]:
    """Return every engine's verdict on an adapter. ``base``: the model it is served on (see :func:`base_of`); ``None``
    leaves out what only its config can tell."""
    seen = Seen(adapter, base)
    details = {name: holds(seen) for name, holds in _conditions().items()}
    return tuple(_judge(engine, seen, details) for engine in engines().values())


def _judge(engine: Engine, seen: Seen, details: Mapping[str, str | None]) -> Verdict:
    held: list[Rule] = []
    for name in (engine.name, *(SHARED if engine.name != "peft" else SHARED[:1])):
        of, title = _file()[name], "PEFT" if name in ("peft", *SHARED) else engine.title
        for rule in of.rules:
            if (detail := details[rule.when]) is not None:
                what, words = (text.replace("{detail}", detail) for text in (rule.what, rule.words))
                source = f"{title} {of.version} ({of.read_in}), {of.address}{rule.file}"
                held.append(replace(rule, what=what, words=words, source=source))
    kind = seen.base.shape.model_type if seen.base else ""
    source = f"{engine.title} {engine.version}"
    if kind in engine.without:
        what, words = f"It runs models of type '{kind}', but without LoRA.", "does not support LoRA yet."
        file, symbol = engine.without_in.split(", ")
        held.append(Rule("a model without LoRA", "refused", what, file, symbol, words, "merged", source))
    elif engine.models and kind and kind not in engine.models:
        what = f"'{kind}' was not found among the models that take LoRA."
        held.append(Rule(_MODEL, "unknown", what, engine.models_in, "the list of models", source=source))
    verdict, change = _decide(held, seen)
    most = max(seen.ranks, default=0)
    change = change.replace("{limit}", str(next((size for size in RANKS if size >= most), RANKS[-1])))
    place = None if asking.class_is_on() else seen.adapter.folder
    command = engine.command.replace("{base}", seen.base.name if seen.base else seen.adapter.base or "BASE")
    command = command.replace("{adapter}", str(place or seen.adapter.name))
    order = ("unknown", *STATES) if verdict == "unknown" else STATES
    reasons = tuple(sorted(held, key=lambda rule: order.index(rule.verdict)))
    command += f" {change}" * change.startswith("--")
    measured = _measured(engine.name, rules_of(reasons), kind)
    return Verdict(engine.name, engine.version, verdict, reasons, change, command, measured)


def rules_of(reasons: Iterable[Rule]) -> list[str]:
    """Return the names of the conditions that make an adapter's kind: those that say something of its weights."""
    return sorted({rule.when for rule in reasons} - {"own chat template"})


@cache
def _recorded() -> list[dict[str, Any]]:
    return disk.read_json(Path(__file__).with_name("measured.json"))["rows"]


def _measured(engine: str, rules: list[str], model_type: str) -> Measured | None:
    """Return what the engine answered with such an adapter, of several the worst."""
    kind = {"engine": engine, "rules": rules, "type": model_type, "loaded": True}
    rows = [row for row in _recorded() if kind.items() <= row.items()]
    worst = max(rows, key=lambda row: (row["did"] == "wrong", row["difference"]), default=None)
    if worst is None:
        return None
    return Measured(worst["did"] == "runs", *(worst[one.name] for one in fields(Measured)[1:]))


def _decide(held: list[Rule], seen: Seen) -> tuple[State, str]:
    """Return the verdict and the change. What is refused may run after a change, such as merging."""
    states, made = {rule.verdict for rule in held}, tuple(MADE)
    change = max((rule.change for rule in held if rule.change in MADE), key=made.index, default="")
    able = change not in made[-2:] or seen.merges
    mended = able and all(rule.change for rule in held if rule.verdict in ("refused", "wrong"))
    if any(rule.when == _MODEL for rule in held) and (mended or "refused" not in states):
        return (
            "wrong" if "wrong" in states else "unknown"
        ), ""  # even merged: its model may be none for the engine
    if "refused" in states:
        return ("change", change) if mended else ("refused", "")
    if states & {"wrong", "unknown"}:
        return ("wrong" if "wrong" in states else "unknown"), change if mended else ""
    if "change" not in states:
        return "runs", ""
    other = next((rule.change for rule in held if rule.change and rule.change not in MADE), "")
    return ("change", other or change) if able else ("refused", "")


def by_config(config: Mapping[str, Any], base: ModelEntry | None = None) -> tuple[Verdict, ...]:
    """Return the verdicts on a config alone, as on a type of the Atlas or a recipe before anything is trained."""
    return passport(Adapter("adapter", config, {}, (), lambda name: b""), base)


def served_by(config: Mapping[str, Any], base: ModelEntry | None = None) -> str:
    """Return one line: which engines take such an adapter as it is, after a change, and not at all."""
    groups: dict[str, list[str]] = defaultdict(list)
    for each in by_config(config, base):
        way = {
            "runs": "as it is",
            "wrong": "loads and answers wrongly",
            "refused": "no",
            "unknown": "not known",
        }
        way["change"] = f"as {MADE.get(each.change, each.change)}"
        groups[way[each.verdict]].append(engines()[each.engine].title)
    return "; ".join(f"{way}: {', '.join(titles)}" for way, titles in groups.items()) + "."
