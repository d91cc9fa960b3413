"""The changes of a module that mean something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Changes with a meaning. Left out: operators put for ones of another kind (a + b for a << b is noticed by anything),
# and removed decorators (here caches, properties and dataclasses: no difference, or no import).
OPERATORS = (
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_FloorDiv",
    "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_FloorDiv_Div",
    "ReplaceBinaryOperator_Mod_FloorDiv", "ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_BitXor_BitOr",
    "ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE",
    "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE",
    "ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt",
    "ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not",
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer",
    "ZeroIterationForLoop",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: an occurrence of an operator, and the line before and after."""

    module: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    code: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.operator}\n    - {self.before}\n    + {self.after}"


def mutants_of(tree: Path, module: str) -> Iterator[Mutant]:
    """Every change of a module that means something, in order."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (tree / module).read_text("utf-8")
    nodes = list(ast_nodes(get_ast(source)))
    idle = _idle(source)
    lines = source.splitlines()
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            # A star that unpacks, or that ends the positional arguments, is no operator.
            unpacks = "Binary" in name and lines[start[0] - 1][: start[1]].rstrip()[-1:] in (
                "",
                "(",
                "[",
                "{",
                ",",
                ":",
            )
            if unpacks or any(begin <= start < end for begin, end in idle):
                continue
            code = mutate_code(source, operator, occurrence)
            number = next(
                (
                    at
                    for at, (old, new) in enumerate(zip(lines, code.splitlines(), strict=False))
                    if old != new
                ),
                -1,
            )
            if number >= 0:
                before, after = lines[number].strip(), code.splitlines()[number].strip()
                yield Mutant(module, name, occurrence, number + 1, before, after, code)


Position = tuple[int, int]


def _idle(source: str) -> list[tuple[Position, Position]]:
    """Where a change does nothing to a result: annotations, imports for the type checker, options of dataclasses, and
    whether zip checks what holds anyway."""
    found: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.ClassDef):
            found += node.decorator_list
        elif isinstance(node, ast.keyword) and node.arg in ("strict", "repr"):
            found.append(node.value)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found.append(node)
        elif (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0])[0].isupper()
            and _is_type(node.value)
        ):
            found.append(node.value)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]
        for node in found
        if node is not None
    ]


def _is_type(value: ast.expr) -> bool:
    """Whether it is an alias such as ``int | None``."""
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr) and "None" in ast.unparse(value)
