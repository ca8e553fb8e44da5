"""`import llama_stack` is cheap, whatever is installed beside it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import llama_stack

HEAVY = ("numpy", "torch", "xllamacpp", "fastapi", "starlette", "uvicorn", "sqlalchemy", "aiohttp", "llama_models")


def modules_after(code: str) -> set[str]:
    report = f"{code}\nimport sys; print(' '.join(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True)
    return set(ended.stdout.split())


def test_importing_the_package_loads_nothing_but_itself() -> None:
    loaded = modules_after("import llama_stack")
    assert not loaded & {*HEAVY, "pydantic", "httpx", "yaml", "asyncio"}
    assert {name for name in loaded if name.startswith("llama_stack")} == {"llama_stack"}


@pytest.mark.parametrize("home", sorted(set(llama_stack._HOMES.values())))
def test_every_name_can_be_had_without_a_heavy_library(home: str) -> None:
    names = [name for name in llama_stack.__all__ if llama_stack._HOMES.get(name) == home]
    assert not modules_after(f"from llama_stack import {', '.join(names)}") & set(HEAVY)


def test_every_name_is_listed() -> None:
    assert set(llama_stack.__all__) <= set(dir(llama_stack))
    for name in llama_stack.__all__:
        assert getattr(llama_stack, name) is not None


def test_every_default_of_a_word_can_be_seen_by_any_type_checker() -> None:
    """Without pydantic's plugin they take `Field(None)` for a field that must be given."""
    api = Path(llama_stack.__file__).parent / "api"
    assert not [
        f"{path.name}:{node.lineno}"
        for path in sorted(api.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field" and node.args
    ]


def test_an_unknown_name_is_an_attribute_error() -> None:
    misspelt = "Agnet"
    with pytest.raises(AttributeError, match="module 'llama_stack' has no attribute 'Agnet'"):
        getattr(llama_stack, misspelt)
