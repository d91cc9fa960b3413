r"""IA³: learned vectors that amplify or inhibit activations (Liu et al. 2022, arXiv 2205.05638, section 3.3).

    k <- l_k * (W_k x)      v <- l_v * (W_v x)      ffn <- W_down (l_ff * f(W_up x))        l starts at 1

              x                          f(W_up x)
              |                              |
        [ W_k frozen ]                  ( * l_ff )   on the input of the feed-forward target
              |                              |
          ( * l_k )   on the output    [ W_down frozen ]
              |                              |
              k                              y

One number per feature, so it can be folded into W's rows (or columns) afterwards: l * (W x) = (diag(l) W) x.
Parameters: d_out per target, d_in per feed-forward target.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import echoed
from peft_lab.core.field import Values
from peft_lab.methods.base import Formula, Part, Problem, Term
from peft_lab.methods.shared.peft_backed import PeftMethod, ia3_feedforward, ia3_targets
from peft_lab.methods.shared.targets import (
    ALL_LINEAR,
    default_problems,
    default_targets,
    documented,
    matched,
    stored_transposed,
    target_problems,
    unfit_problems,
)
from peft_lab.models import meta
from peft_lab.models.catalogue import catalogue
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelShape, ModuleGroup

if TYPE_CHECKING:
    from peft import PeftConfig


class Ia3(PeftMethod):
    """IA³ as in PEFT: vectors on keys, values and the feed-forward part."""

    slug = "ia3"
    mergeable = True

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        targets = documented(shape, ia3_targets())
        feedforward = tuple(name for name in documented(shape, ia3_feedforward()) if name in targets)
        if not targets:
            block = shape.block
            names = {
                role: shape.target_name(block[role])
                for role in ("k", "v", "qkv", "kv", "down")
                if role in block
            }
            targets = tuple(names.values()) or default_targets(shape)
            feedforward = (names["down"],) if "down" in names else ()
        return super().defaults(shape) | {"target_modules": targets, "feedforward_modules": feedforward}

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        targets, feedforward = values["target_modules"], values["feedforward_modules"]
        yield from target_problems(shape, targets)
        yield from default_problems(shape, targets, self.defaults(shape)["target_modules"], ia3_targets())
        unmatched = shape.match(feedforward).unmatched if feedforward else ()
        for name in feedforward:
            if tuple(targets) == (ALL_LINEAR,) and name in unmatched:
                yield Problem("feedforward_modules", f"'{echoed(name)}' matches no module of {shape.title}.")
            elif tuple(targets) != (ALL_LINEAR,) and name not in targets:
                listed = echoed(", ".join(targets), 200)
                message = (
                    f"'{echoed(name)}' is named as feed-forward but is not among the targets ({listed}). Add it to "
                    "the targets, too."
                )
                yield Problem("feedforward_modules", message)
        yield from unfit_problems(shape, shape.match(targets).groups)
        yield from _expert_problems(shape)
        if any(group.role == "qkv" for group in shape.match(targets).groups):
            message = f"{shape.title} fuses query, key and value in one map; the vector also scales queries."
            yield Problem("target_modules", message, "warning")

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        terms = []
        for group in matched(shape, values["target_modules"]):
            size = _size(group, values)
            terms.append(Term(group.path, str(size), size, group.count))
        total = sum(term.total for term in terms)
        symbolic = r"\sum_{\text{targets}} d_{out} + \sum_{\text{feed-forward}} d_{in}"
        return Formula(symbolic, tuple(terms), added=total, stored=total)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        labels = {"q": "l_q", "k": "l_k", "v": "l_v", "qkv": "l_qkv", "kv": "l_kv", "o": "l_o"}
        return tuple(
            Part(
                "gate",
                group.path,
                labels.get(str(group.role), "l_ff" if is_feedforward(group, values) else "l"),
                {"size": _size(group, values), "on_input": int(is_feedforward(group, values))},
            )
            for group in shape.match(values["target_modules"]).groups
        )

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        from peft import IA3Config

        targets = values["target_modules"]
        if tuple(targets) == (ALL_LINEAR,):
            # PEFT resolves the shorthand to full paths and then does not find the feed-forward names among them.
            names = [shape.target_name(group) for group in shape.matrices]
            targets = tuple(dict.fromkeys([*names, *values["feedforward_modules"]]))
        return IA3Config(
            task_type=task_type,
            target_modules=list(targets),
            feedforward_modules=list(values["feedforward_modules"]),
            fan_in_fan_out=stored_transposed(shape.match(values["target_modules"]).groups),
        )


def _expert_problems(shape: ModelShape) -> Iterable[Problem]:
    if not shape.mixtures:
        return
    shared = any(mixture.shared for mixture in shape.mixtures)
    elsewhere = any(g.role == "down" for g in shape.groups if g.is_matrix and not shape.mixture_of(g))
    where = [
        name
        for name, there in (("the shared expert", shared), ("layers without experts", elsewhere))
        if there
    ]
    rest = f"; {' and '.join(where)} can have such a vector" if where else ""
    yield Problem(
        "feedforward_modules",
        f"The experts of {shape.title} get no feed-forward vector: they are bare parameters, and PEFT's IA³ scales "
        f"linear maps only{rest}.",
        "warning",
    )


def is_feedforward(group: ModuleGroup, values: Values) -> bool:
    """Return whether the vector multiplies the input. PEFT compares plain endings here, without the dot."""
    return any(path.endswith(name) for path in group.paths for name in values["feedforward_modules"])


def _size(group: ModuleGroup, values: Values) -> int:
    return group.in_features if is_feedforward(group, values) else group.out_features


METHOD = Ia3()


# ----------------------------------------
# IA³'s targets in the paper and in PEFT, counted on one model of each architecture.
#
# The paper scales keys, values and the activations inside the feed-forward part. PEFT's table names modules for each
# architecture, on some of them different ones.


PAPER = ("k", "v", "down")
# Architectures in PEFT's table but not in the catalogue: built from transformers' default config.
OTHERS = ("opt", "phi", "gpt_neo")
# The names of the paper's vectors: l_k, l_v, l_ff.
_KIND = {"q": "q", "k": "k", "v": "v", "qkv": "q+k+v", "o": "o", "gate": "gate", "up": "up", "down": "ff"}


def target_table() -> list[dict[str, Any]]:
    """Return a row (:func:`target_row`) of each architecture. Imports torch and peft: call it through the inspector."""
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as INPUTS,
    )
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS,
    )

    shapes: dict[str, ModelShape] = {}
    for entry in catalogue().values():
        shapes.setdefault(entry.shape.model_type, entry.shape)
    for name in OTHERS:
        config = meta.make_config({"model_type": name})
        built = meta.build(config, "causal-lm")
        shapes[name] = meta.read_shape(built, config, "causal-lm", name, "default size")
    rows = [
        target_row(shape, TARGETS[kind], INPUTS[kind]) for kind, shape in shapes.items() if kind in TARGETS
    ]
    return sorted(rows, key=lambda row: (row["same"], row["fused"], row["architecture"]))


def target_row(shape: ModelShape, targets: Iterable[str], inputs: Iterable[str]) -> dict[str, Any]:
    """Compare the paper's targets, by role, with the modules that PEFT's names match.

    Returns:
        ``paper`` and ``peft``: what is scaled, such as ``k, v, ff``; ``paper_count`` and ``peft_count``: trained
        factors; ``fused``: keys and values share one map with the queries, so the paper's choice is impossible;
        ``same``: both name the same modules, and equally many.
    """
    inputs = tuple(inputs)
    chosen = {
        "paper": [g for g in shape.groups if g.role in PAPER],
        "peft": list(shape.match(targets).groups),
    }
    row: dict[str, Any] = {
        "architecture": shape.model_type,
        "model": shape.title,
        "fused": "qkv" in shape.block,
    }
    for who, groups in chosen.items():
        row[who] = _named(groups)
        row[f"{who}_count"] = 0
        for group in groups:
            ends = any(path.endswith(inputs) for path in group.paths)
            on_input = group.role == "down" if who == "paper" else ends
            row[f"{who}_count"] += group.count * (group.in_features if on_input else group.out_features)
    return {**row, "same": row["paper"] == row["peft"] and row["paper_count"] == row["peft_count"]}


def _named(groups: Iterable[ModuleGroup]) -> str:
    order = list(_KIND)
    found = sorted({str(group.role) for group in groups}, key=order.index)
    return ", ".join(_KIND[role] for role in found)
