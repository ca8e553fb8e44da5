"""The floor that memory providers stand on in their tests."""

from pathlib import Path

from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.scripted import ScriptedInference


def floor(home: Path) -> InferenceFloor:
    return InferenceFloor(Ground(home=home, state=home / "state"), ScriptedInference())
