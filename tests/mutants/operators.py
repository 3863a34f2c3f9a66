"""The small mistakes that a mutant is made of: each operator proposes edits of one node.

After Offutt et al., "An Experimental Determination of Sufficient Mutant Operators", 1996 (flipped
comparisons, logic and arithmetic), and Deng, Offutt and Li, "Empirical Evaluation of the Statement
Deletion Mutation Operator", 2013. An edit that crashes wherever it is reached (the difference of
two lists, a required field left out) is not proposed: it would be killed, and tell nothing.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True, slots=True)
class Known:
    """What the file declares, and the files that it imports from."""

    optional: Mapping[str, Mapping[str, bool]]
    """A class's fields or a function's parameters, in order: whether each can be left out."""
    passing: frozenset[str]
    """Functions that return what they take first, changed or not: `_pardon(state, client)`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands, and what an operator may need to know around it."""

    parent: ast.AST
    definition: ast.FunctionDef | None
    """The innermost function around it."""
    name: str
    """Of that function or class, after those around it; empty at the top of the module."""
    known: Known

    @property
    def returns(self) -> str:
        """What the function around it returns, as it is annotated."""
        returns = self.definition.returns if self.definition else None
        return ast.unparse(returns) if returns else ""


@dataclass(frozen=True, slots=True)
class Edit:
    operator: str
    node: ast.expr | ast.stmt
    replacement: ast.expr | ast.stmt


Operator = Callable[[ast.AST, Place], Iterator[Edit]]


# Conditions

FLIPPED: Mapping[type[ast.cmpop], Sequence[type[ast.cmpop]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
"""Moved by one where there is an order, and turned round."""


def flip_comparison(node: ast.AST, _: Place) -> Iterator[Edit]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for other in FLIPPED[type(operator)]:
                ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                yield Edit("flip comparison", node, _but(node, ops=ops))


def decide_otherwise(node: ast.AST, _: Place) -> Iterator[Edit]:
    """A guard that is deleted, one that always holds, one that holds when it should not."""
    for condition in _conditions(node):
        yield Edit("never", condition, _decided(condition, False))
        yield Edit("always", condition, _decided(condition, True))
        # Flipping a comparison turns it round already.
        if not isinstance(condition, ast.Compare):
            yield Edit("negate", condition, _negated(condition))


def negate_result(node: ast.AST, place: Place) -> Iterator[Edit]:
    match node:
        case ast.Return(ast.Compare() | ast.Constant()):
            return
        case ast.Return(ast.expr() as value) if place.returns == "bool":
            yield Edit("negate", value, _negated(value))
        case _:
            return


def drop_not(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.UnaryOp(ast.Not(), operand):
            yield Edit("negate", node, operand)
        case _:
            return


def swap_and_or(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.BoolOp(op):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield Edit("swap and/or", node, _but(node, op=other))
        case _:
            return


def drop_clause(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.BoolOp(_, values):
            for rest in _without_one(values):
                left = rest[0] if len(rest) == 1 else _but(node, values=rest)
                yield Edit("drop clause", node, left)
        case _:
            return


# Collections, effects and what is changed of a state


def drop_element(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.Set([_]):
            yield Edit("drop element", node, ast.Call(ast.Name("set"), [], []))
        case ast.Tuple(elements, ast.Load()) if not any(
            isinstance(e, ast.Starred) for e in elements
        ):
            # A pair or a triple that somebody unpacks.
            return
        case ast.List(elements, ast.Load()) | ast.Tuple(elements, ast.Load()) | ast.Set(elements):
            for index, element in enumerate(elements):
                if not is_log_line(element):
                    rest = _but(node, elts=_without(elements, index))
                    yield Edit("drop element", node, rest)
        case ast.Dict(keys, values):
            for index in range(len(keys)):
                entries = {"keys": _without(keys, index), "values": _without(values, index)}
                yield Edit("drop element", node, _but(node, **entries))
        case _:
            return


def drop_effects(node: ast.AST, place: Place) -> Iterator[Edit]:
    """`return state, effects + more` without effects."""
    match node:
        case ast.Return(ast.Tuple([_, ast.List([only])])) if is_log_line(only):
            return
        case ast.Return(ast.Tuple([_, effects])) if ", list[" in place.returns:
            yield Edit("drop effects", effects, ast.List(elts=[], ctx=ast.Load()))
        case _:
            return


def drop_argument(node: ast.AST, place: Place) -> Iterator[Edit]:
    """A field that `replace` does not change, a field or parameter that is left at its default."""
    match node:
        case ast.Call(ast.Name(name), arguments, keywords) if not is_log_line(node):
            optional = place.known.optional.get(name, {})
            for index, keyword in enumerate(keywords):
                may_go = optional.get(keyword.arg or "") or name in ("replace", "min", "max")
                if may_go and not isinstance(keyword.value, ast.JoinedStr):
                    rest = _without(keywords, index)
                    yield Edit("drop argument", node, _but(node, keywords=rest))
            last = [*optional.values()][len(arguments) - 1 : len(arguments)]
            if last == [True] and not keywords and not isinstance(arguments[-1], ast.JoinedStr):
                yield Edit("drop argument", node, _but(node, args=arguments[:-1]))
        case _:
            return


def skip_call(node: ast.AST, place: Place) -> Iterator[Edit]:
    match node:
        case ast.Call(ast.Name(name), [first, *_]) if name in place.known.passing:
            yield Edit("skip call", node, first)
        case _:
            return


def skip_loop(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.For(iter=iterated):
            yield Edit("skip loop", iterated, ast.Tuple(elts=[], ctx=ast.Load()))
        case _:
            return


def delete_statement(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.Expr(ast.Call(args=[argument])) if is_log_line(argument):
            return
        case (
            ast.Expr(ast.Call())
            | ast.Delete()
            | ast.AugAssign()
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
            | ast.Continue()
            | ast.Break()
            | ast.Raise()
        ):
            yield Edit("delete statement", node, ast.Pass())
        case _:
            return


def return_nothing(node: ast.AST, place: Place) -> Iterator[Edit]:
    """No result where there may be none: no moment to wake at, no fault."""
    match node:
        case ast.Return(ast.Constant()):
            return
        case ast.Return(ast.expr() as value) if place.returns.endswith("| None"):
            yield Edit("return nothing", value, ast.Constant(None))
        case ast.Return(ast.expr() as value) if place.returns == "str":
            yield Edit("return nothing", value, ast.Constant(""))
        case _:
            return


# Arithmetic

ARITHMETIC: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.FloorDiv: ast.Mod,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}

CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor"}


def change_arithmetic(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub(), right):
            # Lists have a sum and no difference, sets the other way round.
            possible = is_number(left) or is_number(right)
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            possible = type(operator) in ARITHMETIC
        case _:
            return
    if possible:
        other = ARITHMETIC[type(node.op)]()
        yield Edit("change arithmetic", node, _but(node, op=other))


def drop_term(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.BinOp(left, ast.Sub() | ast.Mult() | ast.Div() | ast.Mod() | ast.Pow()):
            yield Edit("drop term", node, left)
        case ast.BinOp(left, ast.Add() | ast.BitOr() | ast.BitAnd(), right):
            yield Edit("drop term", node, left)
            yield Edit("drop term", node, right)
        case _:
            return


def swap_call(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.Call(ast.Name(name) as function) if name in CALLS:
            yield Edit("swap call", node, _but(node, func=_but(function, id=CALLS[name])))
        case ast.Call(ast.Attribute(attr=name) as function) if name in CALLS:
            yield Edit("swap call", node, _but(node, func=_but(function, attr=CALLS[name])))
        case _:
            return


def drop_bound(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.Call(ast.Name("min" | "max"), [_, _, *_] as arguments):
            for argument in arguments:
                yield Edit("drop bound", node, argument)
        case ast.Subscript(value, ast.Slice()):
            yield Edit("drop bound", node, value)
        case _:
            return


def change_order(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.Call(ast.Name("sorted"), keywords=keywords):
            backwards = ast.keyword("reverse", ast.Constant(True))
            yield Edit("change order", node, _but(node, keywords=[*keywords, backwards]))
        case _:
            return


def nudge_constant(node: ast.AST, _: Place) -> Iterator[Edit]:
    match node:
        case ast.Constant(bool() as value):
            yield Edit("nudge constant", node, ast.Constant(not value))
        case ast.Constant(int() | float() as value):
            yield Edit("nudge constant", node, ast.Constant(value + 1))
            if value >= 1:
                yield Edit("nudge constant", node, ast.Constant(value - 1))
        case ast.Constant("train"):
            yield Edit("nudge constant", node, ast.Constant("evaluate"))
        case ast.Constant("evaluate"):
            yield Edit("nudge constant", node, ast.Constant("train"))
        case _:
            return


OPERATORS: Sequence[Operator] = (
    flip_comparison,
    decide_otherwise,
    negate_result,
    drop_not,
    swap_and_or,
    drop_clause,
    drop_element,
    drop_effects,
    drop_argument,
    skip_call,
    skip_loop,
    delete_statement,
    return_nothing,
    change_arithmetic,
    drop_term,
    swap_call,
    drop_bound,
    change_order,
    nudge_constant,
)


# What they know and what they are made of


def is_log_line(node: ast.AST) -> bool:
    """A note of the log alone: others are named, because somebody looks for them."""
    match node:
        case ast.Call(ast.Name("Note"), [ast.Constant(), *_]):
            return True
        case _:
            return False


def _conditions(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.If(test) | ast.IfExp(test) | ast.While(test):
            return [test]
        case ast.match_case(guard=ast.expr() as guard):
            return [guard]
        case ast.comprehension(ifs=conditions):
            return conditions
        case _:
            return []


def _decided(condition: ast.expr, outcome: bool) -> ast.expr:
    decided = ast.Constant(outcome)
    if not any(isinstance(one, ast.NamedExpr) for one in ast.walk(condition)):
        return decided
    # `if reason := ...`: the name is still needed.
    return ast.BoolOp(ast.Or() if outcome else ast.And(), [condition, decided])


def _negated(condition: ast.expr) -> ast.expr:
    match condition:
        case ast.UnaryOp(ast.Not(), operand):
            return operand
        case _:
            return ast.UnaryOp(ast.Not(), condition)


def is_number(node: ast.expr) -> bool:
    """By its form or its name: units ride at the end of names here."""
    match node:
        case ast.Constant(value):
            return isinstance(value, int | float)
        case ast.Call(ast.Name(name)):
            return name in ("len", "min", "max", "round")
        case ast.Name(name) | ast.Attribute(attr=name):
            return name in ("at", "now", "round") or name.endswith(("_s", "_at", "_count"))
        case ast.BinOp(left, _, right):
            return is_number(left) or is_number(right)
        case _:
            return False


def _but(node: Node, **changes: Any) -> Node:
    """The same node with some fields changed."""
    return type(node)(**(dict(ast.iter_fields(node)) | changes))


def _without_one(items: list[Node]) -> Iterator[list[Node]]:
    for index in range(len(items)):
        yield _without(items, index)


def _without(items: list[Any], index: int) -> list[Any]:
    return [*items[:index], *items[index + 1 :]]
