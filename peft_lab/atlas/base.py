"""What a type of the atlas declares; everything else is counted, simulated, probed or looked up.

A declaration is an entry of ``content/<family>.yaml``. It states what code cannot find out: the update as a formula,
the paper, usual settings, and when to use it. A closed form of the count is part of it if there is one, by its name in
:mod:`peft_lab.atlas.forms`; tests compare it with PEFT's own count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType

from peft_lab.atlas.forms import Each, OfModel, Once, Settings, target_names
from peft_lab.core.content import read_entries
from peft_lab.core.errors import BadInput
from peft_lab.models.shapes import ModelShape
from peft_lab.models.structure import Role

#: Fields of a config as PEFT takes them: lists stay lists.
Fields = NewType("Fields", dict[str, Any])

CONTENT = Path(__file__).parent / "content"


@dataclass(frozen=True)
class Heading:
    """A name with its title, and a sentence about it."""

    name: str
    title: str
    text: str


def headings(file: str) -> dict[str, tuple[str, str]]:
    """Return titles and sentences by name, in the order of a content file. Raises ContentError."""
    return {one.name: (one.title, one.text) for one in read_entries(CONTENT / file, Heading)}


#: Families by key, in display order: title, and what their members have in common.
FAMILIES = headings("families.yaml")


@dataclass(frozen=True)
class Paper:
    """The source of a type.

    Attributes:
        arxiv: its arXiv number; empty for a paper elsewhere, or for none.
        checked: where name, number and update form were looked up.
        url: of a paper that is not on arXiv.
    """

    cite: str
    checked: str
    arxiv: str = ""
    url: str = ""

    @property
    def address(self) -> str:
        """Return the paper's own page; empty if there is no paper."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url

    def __str__(self) -> str:
        return f"{self.cite}, arXiv:{self.arxiv}" if self.arxiv else self.cite


@dataclass(frozen=True)
class Usual:
    """A field of the type's config: its usual values, the first of which is the atlas's default, and its effect."""

    name: str
    values: tuple[Any, ...]
    what: str


@dataclass(frozen=True)
class StandIn:
    """A field to count and simulate with, in place of files that must exist otherwise; ``value``: for one model."""

    name: str
    value: OfModel
    what: str


@dataclass(frozen=True)
class AtlasType:
    """One type, or a variant of one.

    Attributes:
        type: PEFT's name for it (``peft.PeftType``). variant: the variant's name; empty for the type itself.
        family: a key of :data:`FAMILIES`.
        parent: name of the type that it changes; empty for one that starts a line of its own.
        update: what the adapted map computes, as plain text.
        differs: how it differs from its parent, as a sentence. when: when to use it, as a sentence.
        of_model: further fields whose value depends on the model. settings: the others.
        targets: roles of the adapted matrices; empty if the config names none.
        form: the closed form as text, with ``each`` and ``once`` to compute it; empty: counted only.
        rate: learning rate of a short training. taught: slug of the method's own page, if any.
    """

    type: str
    title: str
    family: str
    update: str
    paper: Paper
    knobs: tuple[Usual, ...]
    differs: str
    when: str
    parent: str = ""
    variant: str = ""
    of_model: Mapping[str, OfModel] = field(default_factory=dict)
    settings: Fields = field(default_factory=lambda: Fields({}))
    targets: tuple[Role, ...] = ("q", "v")
    form: str = ""
    each: Each | None = None
    once: Once | None = None
    rate: float = 1e-3
    taught: str = ""
    stand_in: StandIn | None = None

    @property
    def name(self) -> str:
        """Return the name in addresses and on the command line: ``vera``, ``rslora``."""
        return (self.variant or self.type).lower()

    def chosen(self, shape: ModelShape, **changes: Any) -> dict[str, Any]:
        """Return the settings on one model: the usual and the declared ones, with ``changes``."""
        usual = {knob.name: knob.values[0] for knob in self.knobs}
        of_model = {name: value(shape) for name, value in self.of_model.items()}
        return {**usual, **of_model, **self.settings, **changes}

    def config(self, shape: ModelShape, **changes: Any) -> dict[str, Any]:
        """Return the content of an ``adapter_config.json`` for one model.

        Raises:
            BadInput: the model has none of the matrices that the type adapts.
        """
        chosen = self.chosen(shape, **changes)
        if self.targets and "target_modules" not in chosen:
            chosen["target_modules"] = list(target_names(shape, self.targets))
            if not chosen["target_modules"]:
                raise BadInput(f"{shape.title} has no matrices that {self.title} adapts.", "model")
        return {"peft_type": self.type, **chosen}

    def counted_config(self, shape: ModelShape, **changes: Any) -> dict[str, Any]:
        """Return :meth:`config` with the stand-in for files. Raises what that raises."""
        config, held = self.config(shape, **changes), self.stand_in
        return config if held is None else {**config, held.name: held.value(shape)}

    def formula(self, shape: ModelShape, config: Settings) -> int | None:
        """Return the closed form's count of trained parameters on one model; ``None`` without a closed form."""
        if self.each is None and self.once is None:
            return None
        named = config.get("target_modules")
        groups = shape.match(named).groups if named else ()
        total = 0 if self.once is None else self.once(shape, groups, config)
        if self.each is not None:
            total += sum(self.each(group, config) * group.count for group in groups)
        return total
