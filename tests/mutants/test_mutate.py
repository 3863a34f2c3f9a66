"""Mutants of small files: which there are, and what is left alone."""

import ast
from pathlib import Path

import pytest

from tests.mutants import equivalents
from tests.mutants.__main__ import TESTS
from tests.mutants.mutate import mutants

ROOT = Path(__file__).parents[2]


def changes(folder: Path, source: str, operator: str) -> list[tuple[str, str]]:
    """What the operator makes of the lines that it changes."""
    (folder / "machine.py").write_text(source)
    found = mutants(folder, "machine.py")
    return [(mutant.before, mutant.after) for mutant in found if mutant.operator == operator]


@pytest.mark.parametrize(
    ("operator", "line", "expected"),
    [
        ("flip comparison", "a = b < c", ["a = b <= c", "a = b >= c"]),
        ("flip comparison", "a = b is None", ["a = b is not None"]),
        ("flip comparison", "a = b in c == d", ["a = b not in c == d", "a = b in c != d"]),
        ("flip comparison", "a = x not in (y or z)", ["a = x in (y or z)"]),
        ("never", "if a: b()", ["if False: b()"]),
        ("never", "if a := b(): c(a)", ["if (a := b()) and False: c(a)"]),
        ("never", "a = [b for b in c if b.d]", ["a = [b for b in c if False]"]),
        ("always", "a = b if c else d", ["a = b if True else d"]),
        ("negate", "if not a: b()", ["if a: b()"]),
        ("negate", "if a and b: c()", ["if not (a and b): c()"]),
        ("negate", "a = b and not (c or d)", ["a = b and (c or d)"]),
        ("swap and/or", "a = b or c", ["a = b and c"]),
        ("drop clause", "a = b or c or d", ["a = c or d", "a = b or d", "a = b or c"]),
        ("drop clause", "a = b[x and y]", ["a = b[y]", "a = b[x]"]),
        ("drop element", "a = [b, *c]", ["a = [*c]", "a = [b]"]),
        ("drop element", "a = (*b, c)", ["a = (c,)", "a = (*b,)"]),
        ("drop element", "a = b, c", []),
        ("drop element", "a = b | {c}", ["a = b | set()"]),
        ("drop element", "a = {**b, c: d}", ["a = {c: d}", "a = {**b}"]),
        (
            "drop argument",
            "a = replace(b, c=d, e=f)",
            ["a = replace(b, e=f)", "a = replace(b, c=d)"],
        ),
        ("delete statement", "a.append(b)", ["pass"]),
        ("delete statement", "a[b] = c", ["pass"]),
        ("delete statement", "a = b", []),
        ("skip loop", "for a in b: c(a)", ["for a in (): c(a)"]),
        ("change arithmetic", "a = at + b", ["a = at - b"]),
        ("change arithmetic", "a = effects + more", []),
        ("change arithmetic", "a = train - answered", []),
        ("change arithmetic", "a = b | c", ["a = b & c"]),
        ("change arithmetic", "a += 1", ["a -= 1"]),
        ("drop term", "a = b - c", ["a = b"]),
        ("drop term", "a = b + c", ["a = b", "a = c"]),
        ("swap call", "a = max(b, c)", ["a = min(b, c)"]),
        ("swap call", "a = math.ceil(b)", ["a = math.floor(b)"]),
        ("drop bound", "a = max(b, c)", ["a = b", "a = c"]),
        ("drop bound", "a = b[:500]", ["a = b"]),
        ("change order", "a = sorted(b)", ["a = sorted(b, reverse=True)"]),
        ("nudge constant", "a = 0", ["a = 1"]),
        ("nudge constant", "a = 2.0", ["a = 3.0", "a = 1.0"]),
        ("nudge constant", "a = True", ["a = False"]),
        ("nudge constant", "a = 'train'", ["a = 'evaluate'"]),
    ],
)
def test_each_operator_makes_the_mistakes_of_its_kind(
    tmp_path: Path, operator: str, line: str, expected: list[str]
) -> None:
    found = changes(tmp_path, f"def decide():\n    {line}\n", operator)
    assert sorted(found) == sorted((line, after) for after in expected)


def test_what_a_function_returns_says_what_it_may_forget(tmp_path: Path) -> None:
    source = """
def step(state) -> tuple[State, list[Effect]]:
    return _kept(state), effects + more
def _kept(state: State) -> State:
    return _kept(state)
def wake_at(state) -> Seconds | None:
    return state.at
def fault(event) -> str:
    return event.fault
def is_due(state) -> bool:
    return state.due
"""
    assert changes(tmp_path, source, "drop effects") == [
        ("return _kept(state), effects + more", "return _kept(state), []")
    ]
    assert changes(tmp_path, source, "skip call") == [
        ("return _kept(state), effects + more", "return state, effects + more"),
        ("return _kept(state)", "return state"),
    ]
    assert changes(tmp_path, source, "return nothing") == [
        ("return state.at", "return None"),
        ("return event.fault", "return ''"),
    ]
    assert changes(tmp_path, source, "negate") == [("return state.due", "return not state.due")]


def test_a_field_that_has_a_default_may_be_forgotten_wherever_it_is_declared(
    tmp_path: Path,
) -> None:
    (tmp_path / "wire").mkdir()
    (tmp_path / "wire" / "messages.py").write_text(
        "class Receipt:\n    round: int\n    reason: str = ''\n"
    )
    source = """
from wire.messages import Receipt
def receipt(round_id, reason="", hint=0.0):
    return Receipt(round=round_id, reason=reason)
def late(round_id, reason):
    return receipt(round_id, reason)
"""
    assert changes(tmp_path, source, "drop argument") == [
        ("return Receipt(round=round_id, reason=reason)", "return Receipt(round=round_id)"),
        ("return receipt(round_id, reason)", "return receipt(round_id)"),
    ]


LEFT_ALONE = '''
"""Sums 1 and 2."""
class Note:
    kind: str
    detail: str = ""
State = Waiting | Collecting
class Rules:
    quorum: int = 1
def decide(state: Waiting | Collecting, at: Literal[1]) -> tuple[State, list[1]]:
    """More than 1."""
    assert at > 0, 1
    reason: Literal[0] = f"{at + 1} is not {at - 1}"
    match isinstance(state, Waiting | Collecting):
        case Waiting(round=0):
            return [Note("a round of", 1), reason]
    effects.append(Note("nobody there", at + 1))
    return state, [Note("nobody there", str(at))]
'''


def test_words_types_and_knobs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "machine.py").write_text(LEFT_ALONE)
    assert [one.after for one in mutants(tmp_path, "machine.py")] == [
        "return [Note('a round of', 1)]"
    ]


def test_a_named_note_is_not_only_for_the_log(tmp_path: Path) -> None:
    source = "def refuse():\n    return [receipt, Note(REFUSED, reason)]\n"
    assert changes(tmp_path, source, "drop element") == [
        ("return [receipt, Note(REFUSED, reason)]", "return [Note(REFUSED, reason)]"),
        ("return [receipt, Note(REFUSED, reason)]", "return [receipt]"),
    ]


def test_a_mutant_says_where_it_is_and_keeps_all_other_text(tmp_path: Path) -> None:
    source = """# Größer als nötig.
class Round:
    def is_due(self, at):
        return "─▶", (
            self.closes_at
            <= at  # at the last moment
        )
"""
    (tmp_path / "machine.py").write_text(source)
    first = mutants(tmp_path, "machine.py")[0]
    assert (first.place, first.line) == ("Round.is_due", 5)
    assert first.text == (
        "machine.py Round.is_due\n"
        "- self.closes_at <= at # at the last moment\n"
        "+ (self.closes_at < at) # at the last moment"
    )
    assert first.source == source.replace(
        "self.closes_at\n            <= at", "(self.closes_at < at)"
    )


@pytest.mark.parametrize("path", TESTS)
def test_every_mutant_of_a_machine_is_another_program(path: str) -> None:
    itself = ast.dump(ast.parse((ROOT / path).read_text()))
    found = mutants(ROOT, path)
    assert len({mutant.source for mutant in found}) == len(found)
    # Not all of them: it takes longer to read a file than to change it.
    for mutant in found[::10]:
        assert ast.dump(ast.parse(mutant.source)) != itself, mutant.text


def test_an_equivalent_has_a_reason(tmp_path: Path) -> None:
    listed = tmp_path / "equivalents.txt"
    listed.write_text(
        "# Why.\n# Really.\na.py f\n- b\n+ c\na.py f\n- b\n+ d\n\n# So.\na.py g\n- b\n+ c\n"
    )
    assert equivalents.read(listed) == {
        "a.py f\n- b\n+ c": "Why. Really.",
        "a.py f\n- b\n+ d": "Why. Really.",
        "a.py g\n- b\n+ c": "So.",
    }
    listed.write_text("a.py f\n- b\n+ c\n")
    with pytest.raises(ValueError, match="expected a reason"):
        equivalents.read(listed)


def test_every_equivalent_is_a_mutant_still() -> None:
    """A reason that outlives its line would excuse the next mistake that reads like it."""
    texts = {mutant.text for path in TESTS for mutant in mutants(ROOT, path)}
    assert equivalents.read().keys() - texts == set()
