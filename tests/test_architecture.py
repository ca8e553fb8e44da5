"""The law of the house: imports point one way, and every module belongs to an area."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROVIDERS = ROOT / "providers"

# area -> areas it may import, besides itself
LAW: dict[str, set[str]] = {
    "errors": set(),
    "api": {"errors"},
    "gathering": set(),
    "recent": set(),
    "addresses": {"errors"},
    "text": set(),
    "documents": {"text", "transport", "addresses", "api", "errors"},
    "memory": {"documents", "text", "storage", "gathering", "recent", "api", "errors", "transport"},
    "wire": {"api", "errors"},
    "transport": set(),
    "weights": {"errors"},
    "hub": {"errors", "transport", "weights"},
    "provider": {"api", "transport"},
    "substitution": {"errors"},
    "distribution": {"substitution", "api", "errors"},
    "catalog": {"provider", "errors"},
    "storage": {"api", "errors"},
    "routing": {"api", "errors"},
    "registry": {"recent", "storage", "api", "errors"},
    "responses": {"gathering", "agents", "storage", "wire", "api", "errors"},
    "files": {"storage", "api", "errors"},
    "compose": {
        "agents", "responses", "memory", "documents", "files", "registry", "routing", "catalog", "distribution",
        "substitution", "provider", "storage", "api", "errors",
    },
    "build": {"compose", "catalog", "distribution", "errors"},
    "doctor": {"build", "compose", "distribution", "hub", "server", "storage", "weights", "api", "errors"},
    "agents": {"gathering", "memory", "storage", "text", "api", "errors"},
    "client": {"wire", "transport", "api", "errors"},
    "server": {"mcp_host", "wire", "api", "errors", "root"},
    "mcp_host": {"gathering", "agents", "api", "errors", "root"},
    "testing": {"compose", "distribution", "catalog", "wire", "provider", "api", "errors"},
    "sdk": {"gathering", "memory", "agents", "client", "compose", "distribution", "api", "errors"},
    "root": {"sdk", "agents", "client", "api", "errors"},
    "cli": {
        "root", "sdk", "build", "doctor", "server", "mcp_host", "client", "agents", "compose", "catalog",
        "distribution", "substitution", "hub", "weights", "provider", "routing", "storage", "wire", "api", "errors",
    },
    "__main__": {"cli"},
    "providers": {
        "api", "wire", "provider", "errors", "agents", "storage", "weights", "hub", "text", "memory", "addresses",
    },
}  # fmt: skip

ALL_MODULES = sorted([*(ROOT / "llama_stack").rglob("*.py"), *(PROVIDERS / "llama_stack_providers").rglob("*.py")])


def dotted_name(file: Path) -> str:
    base = PROVIDERS if file.is_relative_to(PROVIDERS) else ROOT
    parts = list(file.relative_to(base).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def area_of(module: str) -> str | None:
    """The area a module of ours belongs to; None for anybody else's."""
    top, _, rest = module.partition(".")
    if top == "llama_stack_providers":
        return "providers"
    if top != "llama_stack":
        return None
    return rest.split(".")[0] or "root"


def imported_modules(file: Path) -> set[str]:
    """Every module the file imports anywhere in it, lazily or only for type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "llama_stack":
                submodules = {path.stem for path in (ROOT / "llama_stack").iterdir()}
                inner = {alias.name for alias in node.names} & submodules
                if inner == {alias.name for alias in node.names}:
                    names.discard("llama_stack")
                names.update(f"llama_stack.{name}" for name in inner)
    return names


@pytest.mark.parametrize("file", ALL_MODULES, ids=dotted_name)
def test_a_module_imports_only_what_its_area_may(file: Path) -> None:
    area = area_of(dotted_name(file))
    assert area in LAW, f"{dotted_name(file)} belongs to no area; draw it into the law"
    for module in imported_modules(file):
        imported = area_of(module)
        if imported is not None and imported != area:
            assert imported in LAW[area], f"{dotted_name(file)} ({area}) may not import {module} ({imported})"


@pytest.mark.parametrize("file", [file for file in ALL_MODULES if file.is_relative_to(PROVIDERS)], ids=dotted_name)
def test_a_provider_never_imports_another(file: Path) -> None:
    own = dotted_name(file)
    for module in imported_modules(file):
        if not module.startswith("llama_stack_providers."):
            continue
        private = any(part.startswith("_") for part in module.split(".")[1:])
        assert private or module in own or own in module, f"{own} imports the provider {module}"


def test_only_the_server_knows_its_framework() -> None:
    users = [
        dotted_name(file)
        for file in ALL_MODULES
        if any(name.split(".")[0] in ("fastapi", "starlette") for name in imported_modules(file))
    ]
    assert users
    assert all(area_of(user) == "server" for user in users), users


def test_the_words_import_pydantic_and_nothing_else_foreign() -> None:
    standard = {"array", "collections", "contextlib", "datetime", "enum", "pathlib", "re", "typing"}
    for file in ALL_MODULES:
        if area_of(dotted_name(file)) == "api":
            foreign = {name.split(".")[0] for name in imported_modules(file)} - {"llama_stack", "pydantic"} - standard
            assert not foreign, f"{dotted_name(file)} imports {foreign}"


def test_there_are_no_import_cycles() -> None:
    graph = {
        dotted_name(file): {name for name in imported_modules(file) if area_of(name) is not None}
        for file in ALL_MODULES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for imported in graph.get(module, ()):
            if imported != module:
                visit(imported, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())
