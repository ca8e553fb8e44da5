"""What a shield does about what it finds."""

from typing import Literal

from llama_stack.api.safety import ViolationLevel

Action = Literal["allow", "log", "warn", "block"]
"""allow: as if it had not been found. log: recorded as a violation of level info. warn: shown. block: held back."""

LEVELS: dict[Action, ViolationLevel] = {
    "log": ViolationLevel.INFO,
    "warn": ViolationLevel.WARN,
    "block": ViolationLevel.ERROR,
}

_STRENGTH: dict[Action, int] = {"allow": 0, "log": 1, "warn": 2, "block": 3}


def strength(action: Action) -> int:
    """Orders actions: of two findings the one with the stronger action decides."""
    return _STRENGTH[action]
