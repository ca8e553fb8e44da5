"""Regular expressions searched in time linear in the text, whatever the expression.

Python's own engine backtracks: an expression such as `(a+)+b` takes it time exponential in the text, while it holds
the interpreter, so that no time limit can stop it. Here an expression becomes a finite automaton whose states are
found as they are needed (Thompson, "Regular expression search algorithm", 1968; lazy determinisation as in RE2). The
price is what an automaton cannot say: back-references and look-around are refused.

Atoms (a character, a class, an escape) keep Python's meaning, because Python's engine decides them, one character at
a time. `$` without the flag `m` is the very end of the text.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from llama_stack_providers.inline._rules.expression import (
    Assertion,
    Atom,
    BadPattern,
    Choice,
    Node,
    Repeat,
    Sequence,
    read_expression,
)

MAX_STATES = 4000
"""Of one automaton; `(\\w{1,40} ){1,20}` is 1,700."""
_MAX_CACHED = 4000
_CHECK_EVERY = 2048

_OUTSIDE = -1
"""Stands for the character before the first and after the last one."""


class OutOfTime(Exception):
    """The search was given up at its deadline."""


@dataclass
class _Automaton:
    """Nondeterministic. State 0 is the goal; `moves` consume a character, `jumps` none and may need an assertion."""

    atoms: dict[str, int]
    moves: list[tuple[int, int] | None] = field(default_factory=lambda: [None])
    jumps: list[list[tuple[str | None, int]]] = field(default_factory=lambda: [[]])
    start: int = 0

    def state(self) -> int:
        if len(self.moves) >= MAX_STATES:
            raise BadPattern(f"needs more than {MAX_STATES} states; shorten its repeats")
        self.moves.append(None)
        self.jumps.append([])
        return len(self.moves) - 1

    def build(self, node: Node, then: int, *, backwards: bool) -> int:
        """The state from which `node` leads to `then`."""
        match node:
            case Atom(source):
                here = self.state()
                self.moves[here] = (self.atoms.setdefault(source, len(self.atoms)), then)
                return here
            case Assertion(kind):
                here = self.state()
                self.jumps[here].append((kind, then))
                return here
            case Sequence(parts):
                for part in parts if backwards else reversed(parts):
                    then = self.build(part, then, backwards=backwards)
                return then
            case Choice(options):
                here = self.state()
                self.jumps[here] = [(None, self.build(option, then, backwards=backwards)) for option in options]
                return here
            case Repeat():
                return self._repeat(node, then, backwards=backwards)

    def _repeat(self, node: Repeat, then: int, *, backwards: bool) -> int:
        if node.most is None:
            again = self.state()
            once = self.build(node.node, again, backwards=backwards)
            self.jumps[again] = [(None, once), (None, then)]
            then = again
        else:
            end = then
            for _ in range(node.most - node.fewest):
                here = self.state()
                self.jumps[here] = [(None, self.build(node.node, then, backwards=backwards)), (None, end)]
                then = here
        for _ in range(node.fewest):
            then = self.build(node.node, then, backwards=backwards)
        return then


class _State:
    """Deterministic: the nondeterministic states reached, and what stands before them. Steps are kept once found."""

    __slots__ = ("left", "members", "steps")

    def __init__(self, members: frozenset[int], left: int) -> None:
        self.members = members
        self.left = left
        self.steps: dict[int, tuple[bool, _State]] = {}


class _Walker:
    """Walks one automaton over characters, by their kinds. everywhere: a match may begin at each step."""

    def __init__(self, automaton: _Automaton, kinds: "_Kinds", *, everywhere: bool, backwards: bool) -> None:
        self._automaton = automaton
        self._kinds = kinds
        self._everywhere = everywhere
        self._backwards = backwards
        self._states: dict[tuple[frozenset[int], int], _State] = {}

    def begin(self, behind: int) -> _State:
        return self._interned(frozenset({self._automaton.start}), behind)

    def step(self, state: _State, kind: int) -> tuple[bool, _State]:
        """Whether the goal is reached before a character of this kind, and the state after it."""
        known = state.steps.get(kind)
        if known is None:
            known = state.steps[kind] = self._found(state, kind)
        return known

    def _found(self, state: _State, kind: int) -> tuple[bool, _State]:
        reached = self._closure(state, kind)
        after: set[int] = {self._automaton.start} if self._everywhere else set()
        for member in reached:
            move = self._automaton.moves[member]
            if move is not None and self._kinds.matches(kind, move[0]):
                after.add(move[1])
        return 0 in reached, self._interned(frozenset(after), kind)

    def _interned(self, members: frozenset[int], left: int) -> _State:
        if len(self._states) >= _MAX_CACHED:
            self._states = {}  # whoever is in the middle of a text keeps the states it holds
        return self._states.setdefault((members, left), _State(members, left))

    def _closure(self, state: _State, kind: int) -> set[int]:
        left, right = (kind, state.left) if self._backwards else (state.left, kind)
        reached: set[int] = set()
        waiting = list(state.members)
        while waiting:
            member = waiting.pop()
            if member in reached:
                continue
            reached.add(member)
            for assertion, to in self._automaton.jumps[member]:
                if assertion is None or self._kinds.holds(assertion, left, right):
                    waiting.append(to)
        return reached


class _Kinds:
    """Characters that no atom tells apart are of one kind."""

    def __init__(self, atoms: Iterable[str], flags: re.RegexFlag) -> None:
        self._tests = [re.compile(source, flags) for source in atoms]
        self._of: dict[str, int] = {}
        self._numbers: dict[tuple[bool, ...], int] = {}
        self._traits: list[tuple[bool, ...]] = []

    def of(self, char: str) -> int:
        number = self._of.get(char)
        if number is None:
            traits = (
                *(test.fullmatch(char) is not None for test in self._tests),
                char.isalnum() or char == "_",
                char == "\n",
            )
            number = self._numbers.setdefault(traits, len(self._numbers))
            if number == len(self._traits):
                self._traits.append(traits)
            if len(self._of) >= _MAX_CACHED:
                self._of = {}
            self._of[char] = number
        return number

    def matches(self, kind: int, atom: int) -> bool:
        return kind != _OUTSIDE and self._traits[kind][atom]

    def holds(self, assertion: str, left: int, right: int) -> bool:
        match assertion:
            case "b" | "B":
                return (self._is_word(left) != self._is_word(right)) == (assertion == "b")
            case "A":
                return left == _OUTSIDE
            case "Z":
                return right == _OUTSIDE
            case "line start":
                return left == _OUTSIDE or self._traits[left][-1]
            case _:
                return right == _OUTSIDE or self._traits[right][-1]

    def _is_word(self, kind: int) -> bool:
        return kind != _OUTSIDE and self._traits[kind][-2]


class LinearPattern:
    """An expression, ready to search. Raises BadPattern, saying why."""

    def __init__(self, pattern: str, *, ignore_case: bool = True) -> None:
        tree, head = read_expression(pattern)
        flags = re.IGNORECASE if ignore_case or "i" in head else re.RegexFlag(0)
        if "s" in head:
            flags |= re.DOTALL
        atoms: dict[str, int] = {}
        forwards, backwards = _Automaton(atoms), _Automaton(atoms)
        forwards.start = forwards.build(tree, 0, backwards=False)
        backwards.start = backwards.build(tree, 0, backwards=True)
        self._kinds = _Kinds(atoms, flags)
        self._ends = _Walker(forwards, self._kinds, everywhere=True, backwards=False)
        self._starts = _Walker(backwards, self._kinds, everywhere=False, backwards=True)
        self._whole = _Walker(forwards, self._kinds, everywhere=False, backwards=False)
        if self.search("") is not None:
            raise BadPattern("finds something in every text, an empty one included")

    def search(self, text: str, deadline: float | None = None) -> tuple[int, int] | None:
        """Start and end of a match: of the one that ends first, its earliest start and from there its latest end.

        deadline: of time.monotonic(). Raises OutOfTime when it passes.
        """
        end = self._first(self._ends, text, 0, len(text), deadline)
        if end is None:
            return None
        start = self._last(self._starts, text, end, 0, deadline)
        return start, self._last(self._whole, text, start, len(text), deadline)

    def _first(self, walker: _Walker, text: str, start: int, stop: int, deadline: float | None) -> int | None:
        return next(self._goals(walker, text, start, stop, deadline), None)

    def _last(self, walker: _Walker, text: str, start: int, stop: int, deadline: float | None) -> int:
        return max(
            self._goals(walker, text, start, stop, deadline), key=lambda place: abs(place - start), default=start
        )

    def _goals(self, walker: _Walker, text: str, start: int, stop: int, deadline: float | None) -> Iterator[int]:
        """The places at which the goal is reached, on the way from `start` to `stop`."""
        way = 1 if stop >= start else -1
        behind = text[start - 1 : start] if way == 1 else text[start : start + 1]
        state = walker.begin(self._kinds.of(behind) if behind else _OUTSIDE)
        place = start
        while True:
            if deadline is not None and not place % _CHECK_EVERY and time.monotonic() > deadline:
                raise OutOfTime
            ahead = text[place : place + 1] if way == 1 else text[place - 1 : place] if place else ""
            reached, state = walker.step(state, self._kinds.of(ahead) if ahead else _OUTSIDE)
            if reached:
                yield place
            if place == stop or not state.members:
                return
            place += way


@lru_cache(maxsize=512)
def linear_pattern(pattern: str, *, ignore_case: bool = True) -> LinearPattern:
    """The pattern, made once. Raises BadPattern."""
    return LinearPattern(pattern, ignore_case=ignore_case)
