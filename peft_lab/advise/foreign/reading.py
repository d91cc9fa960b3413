"""Read another tool's config file as the lab's settings, and say what was left out and what that may change.

``keys/<tool>.yaml`` says for each key of a tool which of our settings it is. A rule is a setting's name; a ``table``
from values to settings; or ``find``, a list of patterns with what they stand for. ``= name`` is a rule of
``trainer.yaml``, whose keys are those of transformers' trainer. ``refuse``, ``why`` and ``effect`` are for other
values, ``partly`` for values that are simulated in part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from peft_lab.advise.foreign.parsing import FIELD, Entry, Parsed, parse
from peft_lab.core.errors import BadInput, echoed
from peft_lab.core.field import Field, as_text
from peft_lab.engine.request import PACKED_TITLES, StepForm
from peft_lab.methods import get_method
from peft_lab.models.catalogue import known_models

#: In the order in which they are told apart: the last ones share keys with others.
TOOLS = (
    "axolotl", "llama_factory", "llama_factory_v1", "torchtune", "accelerate", "deepspeed", "unsloth", "trl",
)  # fmt: skip
_LONGEST = 2_000  # characters of a value that patterns search
_STEP = (
    "batch", "seq", "dtype", "optimizer", "checkpointing", "offload", "loss", "accumulate", "devices", "sharding",
    "compile", "attention", "updates",
)  # fmt: skip
#: Settings that not every step can have, with the field of a step that they decide.
_SWITCHES = {"compile": "compile", "updates": "updates", "attention": "attention", "liger": "loss"}
#: What copies of a model add to its name: tuned for instructions, or packed. Their matrices are the same.
_COPY = re.compile(r"^meta-|-(instruct|chat|it|hf|base|unsloth|bnb-4bit|bf16)(?=-|$)")


class Ignored(NamedTuple):
    """A key that is not read. ``effect``: what it may change."""

    key: str
    why: str
    effect: str


@dataclass(frozen=True)
class Reading:
    """A file as the lab reads it.

    Attributes:
        settings: the lab's settings. understood: what each key of the file was read as.
        assumed: the tool's own defaults for keys that the file does not set.
        changes: how the tool spells a change of each kind.
        keys: the file's keys of each switch that not every step can have.
    """

    tool: str
    settings: Mapping[str, Any]
    understood: Mapping[str, Any]
    assumed: Mapping[str, Any]
    ignored: tuple[Ignored, ...]
    changes: Mapping[str, Any]
    keys: Mapping[str, tuple[str, ...]]

    @property
    def method(self) -> str:
        """Return the method's slug; empty if the file names none."""
        kind: str = self.settings.get("adapter", "")
        return "qlora" if kind == "lora" and self.settings.get("bits") in (4, 8) else kind

    @property
    def pairs(self) -> int:
        """Return the sequences per row: two for preferences."""
        return 2 if self.settings.get("objective") == "preference" else 1

    @property
    def sets(self) -> list[str]:
        """Return the method's knobs that the file sets, as ``KEY=VALUE``."""
        known = (knob.name for knob in get_method(self.method).knobs if knob.name in self.settings)
        return [f"{name}={as_text(self.settings[name])}" for name in known]

    def step(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a step that the file decides, over them those that are given."""
        found = {name: self.settings[name] for name in _STEP if name in self.settings}
        if "batch" in found:
            found["batch"] *= self.pairs
        found = {"sharding": "ddp", **found, **given}
        if found["devices"] == 1:
            del found["sharding"]
        return found

    def on(self, given: Mapping[str, Any]) -> Reading:
        """Return the file without the switches that its step cannot have with these options, which ignores their keys.
        ``given``: fields of a step, and ``lengths`` if rows differ in length. What they set is left as it is."""
        step, kept = self.step(given), self.settings
        alone = step["devices"] == 1 and step.get("accumulate", 1) == 1
        refused = {
            "compile": kept.get("bits") in (4, 8) or step.get("dtype") in PACKED_TITLES,
            "updates": not alone or step.get("optimizer") in ("lorafa", "muon"),
            "attention": step.get("attention") == "flash" and "lengths" in given,
            "loss": step.get("loss") == "liger" and kept.get("logits", False),
        }
        notes = keys_of("trl")["notes"]
        gone = [name for name, no in refused.items() if no and name not in given]
        left = {key: Ignored(key, *notes[name]) for name in gone for key in self.keys.get(name, ())}
        return replace(
            self, settings={name: one for name, one in kept.items() if name not in gone},
            understood={key: one for key, one in self.understood.items() if key not in left},
            ignored=(*(one for one in self.ignored if one.key not in left), *left.values()),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return what the command line's JSON says of the file."""
        told = {name: dict(getattr(self, name)) for name in ("understood", "assumed")}
        return {"tool": self.tool, **told, "ignored": [one._asdict() for one in self.ignored]}


@cache
def keys_of(tool: str) -> dict[str, Any]:
    """Return a tool's keys, with those of transformers' trainer where the tool has them."""
    folder = Path(__file__).with_name("keys")
    found, shared = (
        yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8")) for name in (tool, "trainer")
    )
    if found.get("with_trainer"):
        found |= {"keys": shared["keys"] | found["keys"], "ignored": found["ignored"] + shared["ignored"]}
    found |= {name: shared[name] for name in ("rules", "notes", "numbers")}
    return dict[str, Any](found, trainer=shared["version"])


def _tool_of(parsed: Parsed) -> Mapping[str, Any]:
    """Return the keys of the tool that a file is for. Raises BadInput if it is for none."""
    there = parsed.entries.keys()
    for tool in map(keys_of, TOOLS):
        by_keys = set(tool["marks"]) <= there and bool(there & set(tool["any_of"]))
        if by_keys if parsed.words is None else tool.get("words", "\n") in parsed.words.lower():
            return tool
    known, keys = ", ".join(keys_of(name)["title"] for name in TOOLS), echoed(", ".join(there), 80)
    raise BadInput(f"The file's keys ({keys}) belong to none of the supported tools: {known}.", FIELD)


def read(text: str, name: str) -> Reading:
    """Return a config file as the lab's settings. Raises BadInput if the file cannot be parsed, is of no known tool,
    trains nothing, or asks for what is not simulated."""
    parsed = parse(text, name)
    tool = _tool_of(parsed)
    for why, keys in tool.get("needs", {}).items():
        if not any(parsed.entries[key].value for key in keys if key in parsed.entries):
            raise BadInput(f"This {tool['title']} file trains nothing: {why}.", FIELD)
    assumed = {key: value for key, value in tool["defaults"].items() if key not in parsed.entries}
    entries = {key: Entry(value) for key, value in assumed.items()} | dict(parsed.entries)
    if "command" in tool["keys"] and parsed.words:
        entries["command"] = Entry(parsed.words)
    settings, understood, ignored = dict[str, Any](), dict[str, Any](), list[Ignored]()
    keys = dict[str, tuple[str, ...]]()
    for key, entry in entries.items():
        made, left = (None, None) if entry.value is None else _meant(tool, key, entry)
        ignored += [Ignored(key, *left)] if left else []
        for setting, value in (made or {}).items():
            settings[setting] = settings.get(setting) or value if isinstance(value, bool) else value
            if (switch := _SWITCHES.get(setting)) is not None:
                keys[switch] = (*keys.get(switch, ()), key)
        if made is not None and key in parsed.entries:
            understood[key] = next(iter(made.values())) if len(made) == 1 else made or entry.value
    for key, setting in tool.get("not_rl", {}).items():
        if settings.get("objective") == "rl" and assumed.pop(key, None):
            del settings[setting]
    if not understood:
        raise BadInput(
            f"This {tool['title']} file does not say how it trains: its values are set when it runs.", FIELD
        )
    ignored += [Ignored(what, *tool["notes"][what]) for what in _settle(settings, tool)]
    return Reading(tool["title"], settings, understood, assumed, tuple(ignored), tool["changes"], keys).on({})


def _meant(
    tool: Mapping[str, Any], key: str, entry: Entry
) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    """Return the settings that a key decides, None if it is ignored; and why it is, or is in part, and the effect."""
    rule, notes = tool["keys"].get(key), tool["notes"]
    if rule is None:
        groups = (one for one in tool["ignored"] if any(fnmatchcase(key, pattern) for pattern in one["keys"]))
        group = next(groups, None)
        return None, (group["why"], group["effect"]) if group else notes["unknown"]
    if not entry.literal:
        return None, notes["code"]
    rule = tool["rules"][rule[2:]] if str(rule).startswith("= ") else rule
    rule = {"to": rule} if isinstance(rule, str) else rule
    word = str(entry.value)[:_LONGEST].strip().lower()
    if word == "auto" and "auto" in tool:
        return None, tool["auto"]
    made = _looked_up(rule, word) if "table" in rule or "find" in rule else _checked(rule["to"], entry, key)
    if made is None and "refuse" in rule:
        raise BadInput(f"{_place(entry)}{key} is {echoed(entry.value)}, but {rule['refuse']}.", FIELD)
    if made is None:
        why = rule.get("why", f"The value {echoed(entry.value)} is not simulated.")
        return None, (why, rule.get("effect", notes["unknown"][1]))
    partly = {str(value).lower(): text for value, text in rule.get("partly", {}).items()}.get(word)
    made = made if isinstance(made, dict) else {rule["to"]: made}
    return made | rule.get("also", {}), ("This is only partly simulated.", partly) if partly else None


def _looked_up(rule: Mapping[str, Any], word: str) -> Any:
    if "table" in rule:
        return {str(value).lower(): made for value, made in rule["table"].items()}.get(word)
    there = [(match, made) for pattern, made in rule["find"] if (match := re.search(pattern, word))]
    if not there or not isinstance(there[0][1], dict):
        return there[0][1] if there else None
    made = dict[str, Any]()
    for match, given in reversed(there):  # the first says most
        made |= {name: match.expand(one) if isinstance(one, str) else one for name, one in given.items()}
    return made


def _checked(name: str, entry: Entry, key: str) -> Any:
    """Return a value as the setting that it is. Raises BadInput with its line and key."""
    if name == "model":
        return named(str(entry.value))
    fields = {one.name: one for slug in ("qlora", "lora") for one in get_method(slug).knobs} | dict(
        StepForm.fields()
    )
    if name in keys_of("trl")["numbers"]:
        kind, least, most = keys_of("trl")["numbers"][name]
        fields[name] = Field(name, name, kind, None, "", min=least, max=most)
    if name not in fields or fields[name].kind == "modules":
        return entry.value
    try:
        return fields[name].parse(str(entry.value))
    except BadInput as error:
        raise BadInput(f"{_place(entry)}{key}: {error}", FIELD) from None


def _settle(settings: dict[str, Any], tool: Mapping[str, Any]) -> list[str]:
    """Fill in what follows from several keys together; return the notes on what was left out for it."""
    notes, full = list[str](), settings.get("adapter", "full") == "full"
    if "model" in settings:  # a pattern may have made it
        settings["model"] = named(settings["model"])
    if tool["marks"] or tool.get("with_trainer"):
        settings.setdefault("adapter", "full")
    if settings.pop("pairs", False):
        settings.setdefault("objective", "preference")
    half, stored = settings.get("half", tool["half"]), tool["stored"]
    kept = stored["full" if full else "adapter"]
    if full and settings.get("sharding") == "fsdp2":
        kept = stored.get("sharded", kept)
    packed = settings.get("bits") in (4, 8)
    settings["dtype"] = half if packed else settings.get("dtype", half if kept == "half" else kept)
    if not settings["dtype"]:
        del settings["dtype"]
    settings["load_in_8bit"] = settings.get("bits") == 8
    if "liger" in settings:  # it replaces the loss of the model's own code
        settings["loss"] = settings.pop("liger")
    if "loss" in tool and settings.get("objective", "sft") in ("sft", "cpt"):
        settings.setdefault("loss", tool["loss"])
    if "epoch_steps" in settings:
        settings["steps"] = round(settings.pop("epoch_steps") * settings.get("epochs", 1.0))
    if "alpha_of_rank" in tool and "r" in settings:
        settings.setdefault("lora_alpha", tool["alpha_of_rank"] * settings["r"])
    targets = _listed(settings.pop("target_modules", ())) + _listed(settings.pop("more_targets", ()))
    if not targets and not full:
        targets = tool.get("targets", [])
    if settings.pop("all_linear", False) or {"all", "all-linear"} & set(targets):
        targets = ["all-linear"]
    if not all(re.fullmatch(r"[\w.-]+", one) for one in targets):
        notes.append("target modules")
    elif targets:
        settings["target_modules"] = [one.replace("output_proj", "o_proj") for one in targets]
    if settings.get("steps", 1) < 1:
        del settings["steps"]
    if settings.setdefault("devices", 1) == 1 and settings.get("sharding", "ddp") != "ddp":
        notes.append("GPUs")
    return notes


def _place(entry: Entry) -> str:
    return f"Line {entry.line}: " if entry.line else ""


def _listed(value: Any) -> list[str]:
    return [str(one).strip() for one in (value.split(",") if isinstance(value, str) else value or ())]


def named(text: str) -> str:
    """Return the catalogue's name of a model or of a copy of it with the same matrices, else the text itself.

    >>> named("NousResearch/Meta-Llama-3.1-8B-Instruct"), named("unsloth/Llama-3.2-1B-bnb-4bit"), named("own/model")
    ('llama-3.1-8b', 'llama-3.2-1b', 'own/model')
    """
    tidy = re.sub(r"(\d)_(\d)", r"\1.\2", text)
    known = {_bare(entry.source): name for name, entry in known_models().items()} | keys_of("trl")["rules"][
        "alike"
    ]
    return tidy if tidy in known_models() else known.get(_bare(tidy), tidy)


def _bare(name: str) -> str:
    return _COPY.sub("", name.partition(",")[0].lower().rstrip("/").rpartition("/")[2])
