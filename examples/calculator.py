"""A calculator that reads words and signs: "12 times 9", "add 5 and 7", "the square root of 81", "(3 + 4) * 2".

Words become signs, and the signs are evaluated on Python's syntax tree: numbers and arithmetic, no names, no calls.
"""

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

_DIGITS = "zero one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_SMALL = {word: value for value, word in enumerate(f"{_DIGITS} {_TEENS}".split())}
_DECADES = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * value for value, word in enumerate(_DECADES.split(), start=2)}
_NUMBER = r"(\(.+?\)|\d+(?:\.\d+)?)"

# In this order; each pair is a pattern and what it becomes.
_WORDS: list[tuple[str, str]] = [
    (rf"add {_NUMBER} (?:and|to) {_NUMBER}", r"(\1 + \2)"),
    (rf"subtract {_NUMBER} from {_NUMBER}", r"(\2 - \1)"),
    (rf"take {_NUMBER} (?:away )?from {_NUMBER}", r"(\2 - \1)"),
    (rf"multiply {_NUMBER} (?:by|and|with) {_NUMBER}", r"(\1 * \2)"),
    (rf"divide {_NUMBER} by {_NUMBER}", r"(\1 / \2)"),
    (rf"(?:the )?sum of {_NUMBER} and {_NUMBER}", r"(\1 + \2)"),
    (rf"(?:the )?difference (?:of|between) {_NUMBER} and {_NUMBER}", r"(\1 - \2)"),
    (rf"(?:the )?product of {_NUMBER} and {_NUMBER}", r"(\1 * \2)"),
    (rf"(?:the )?average of {_NUMBER} and {_NUMBER}", r"((\1 + \2) / 2)"),
    (rf"(?:the )?(?:square root of|sqrt of|sqrt) ?{_NUMBER}", r"(\1 ** 0.5)"),
    (rf"(?:the )?cube of {_NUMBER}", r"(\1 ** 3)"),
    (rf"{_NUMBER} ?(?:percent|%) off {_NUMBER}", r"(\2 - \2 * \1 / 100)"),
    (rf"{_NUMBER} ?(?:percent|%) of {_NUMBER}", r"(\1 / 100 * \2)"),
    (rf"half of {_NUMBER}", r"(\1 / 2)"),
    (rf"a third of {_NUMBER}", r"(\1 / 3)"),
    (rf"double {_NUMBER}", r"(2 * \1)"),
    (r"(?:to the power of|raised to|\^)", "**"),
    (r"squared", "** 2"),
    (r"cubed", "** 3"),
    (r"(?:divided by|over|÷)", "/"),
    (r"(?:multiplied by|times|×)", "*"),
    (r"(?<=[\d)]) ?x ?(?=[\d(])", " * "),
    (r"(?:modulo|mod)", "%"),
    (r"(?:plus|added to)", "+"),
    (r"(?:minus|less)", "-"),
]
_POLITE_START = re.compile(r"^(?:what is|what's|how much is|calculate|compute|work out|evaluate|please)\s+")
_POLITE_END = re.compile(r"\s*(?:please|[=?.!])+$")
Number = Fraction | float
_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_LONGEST_CHARS = 200
_LARGEST_POWER = 1000
_LARGEST_BASE = 10**100


def calculate(expression: str) -> str:
    """Evaluate an arithmetic expression.

    Args:
        expression: The expression
    """
    if len(expression) > _LONGEST_CHARS:
        raise ValueError("the expression is too long")
    try:
        tree = ast.parse(signs_of(expression).strip(), mode="eval")
    except SyntaxError:
        raise ValueError(f"cannot calculate {expression!r}") from None
    return _shown(_value(tree.body, expression))


def signs_of(expression: str) -> str:
    """The expression in signs: "twenty-one plus 4 times 2" is "21 + 4 * 2"."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", expression.lower().strip())
    while (shorter := _POLITE_END.sub("", _POLITE_START.sub("", text))) != text:
        text = shorter
    text = re.sub(rf"\b({'|'.join(_TENS)})[- ]({'|'.join(list(_SMALL)[1:10])})\b", _joined_number, text)
    text = re.sub(rf"\b({'|'.join([*_SMALL, *_TENS])})\b", _single_number, text)
    for pattern, signs in _WORDS:
        text = re.sub(pattern if not pattern[-1].isalpha() else rf"\b{pattern}\b", signs, text)
    return text


def _joined_number(match: re.Match[str]) -> str:
    return str(_TENS[match[1]] + _SMALL[match[2]])


def _single_number(match: re.Match[str]) -> str:
    return str((_SMALL | _TENS)[match[1]])


def _value(node: ast.expr, expression: str) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if math.isinf(number):
                raise ValueError("the number is too large")
            return Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, expression)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, expression)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, expression), _value(right, expression))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            try:
                return _OPERATIONS[type(op)](_value(left, expression), _value(right, expression))
            except ZeroDivisionError:
                raise ValueError("division by zero") from None
        case _:
            raise ValueError(f"cannot calculate {expression!r}")


def _power(base: Number, exponent: Number) -> Number:
    if not (-_LARGEST_POWER <= exponent <= _LARGEST_POWER and -_LARGEST_BASE <= base <= _LARGEST_BASE):
        raise ValueError("the power is too large")
    if base < 0 and exponent != int(exponent):
        raise ValueError("the root of a negative number is not real")
    if base == 0 and exponent < 0:
        raise ValueError("division by zero")
    if exponent == Fraction(1, 2) and isinstance(base, Fraction):
        roots = math.isqrt(base.numerator), math.isqrt(base.denominator)
        if (exact := Fraction(*roots)) ** 2 == base:
            return exact
    result: Number = base**exponent
    return result


def _shown(value: Number) -> str:
    """A whole number as it is, any other with at most ten significant digits."""
    if -(10**15) < value < 10**15 and value == int(value):
        return str(int(value))
    try:
        return f"{float(value):.10g}"
    except OverflowError:
        raise ValueError("the result is too large") from None
