"""`${env.NAME}` in a distribution file, in every spelling that was ever in use.

    ${env.NAME}            the variable; it must be set
    ${env.NAME:=default}   the variable, or the default when it is unset or empty   (older: ${env.NAME:default})
    ${env.NAME:+value}     the value when the variable is set and not empty, else nothing   (older: ${env.NAME+value})
    $${env.NAME}           the text "${env.NAME}" itself

What comes out is always text; the field it fills gives it its type, so NAME=007 stays "007" in a text field and is 7 in
a whole-number field. A value that comes out empty counts as not written: the field keeps its own default.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack.errors import ConfigError, MissingVariable

Path = tuple[str | int, ...]
"""Where a value stands in the file: keys and list positions from the top."""

_PATTERN = re.compile(r"(?P<escape>\$)?\$\{env\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<how>:=|:\+|:|\+)?(?P<word>[^}]*)\}")
_MALFORMED = re.compile(r"(?<!\$)\$\{(?!env\.[A-Za-z_][A-Za-z0-9_]*(?::=|:\+|:|\+|\}))")
_NOTHING = object()


@dataclass(frozen=True)
class Origin:
    """Where a value came from. kind: file, environment, substitution default, default or flag."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()


def spell(path: Path) -> str:
    """The path as a person writes it: `providers.inference[0].config.url`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def substitute(tree: Any, env: Mapping[str, str], *, where: str) -> tuple[Any, dict[Path, Origin]]:
    """The tree with every `${env...}` replaced, and the origin of each scalar in it.

    where: the file's name, for messages. Raises ConfigError, naming variable and key, for a variable that must be set
    and is not, and for a spelling that is none of the above.
    """
    origins: dict[Path, Origin] = {}
    replaced = _substitute(tree, env, where, (), origins)
    return ({} if replaced is _NOTHING else replaced), origins


def _substitute(node: Any, env: Mapping[str, str], where: str, path: Path, origins: dict[Path, Origin]) -> Any:
    if isinstance(node, dict):
        pairs = {key: _substitute(value, env, where, (*path, key), origins) for key, value in node.items()}
        return {key: value for key, value in pairs.items() if value is not _NOTHING}
    if isinstance(node, list):
        # Positions are counted after empty items have gone, so that paths fit the tree that is validated.
        items: list[Any] = []
        for item in node:
            value = _substitute(item, env, where, (*path, len(items)), origins)
            if value is not _NOTHING:
                items.append(value)
        return items
    if not isinstance(node, str) or "${" not in node:
        origins[path] = Origin("file")
        return node
    return _substitute_text(node, env, where, path, origins)


def _substitute_text(text: str, env: Mapping[str, str], where: str, path: Path, origins: dict[Path, Origin]) -> Any:
    if _MALFORMED.search(text):
        raise ConfigError(
            f"{spell(path)} holds {text!r}, which is no substitution",
            where=where,
            remedy="Write ${env.NAME}, ${env.NAME:=default} or ${env.NAME:+value}; $${ stands for a plain ${.",
        )
    origin = Origin("file")

    def replacement(match: re.Match[str]) -> str:
        nonlocal origin
        name, how, word = match["name"], match["how"] or "", match["word"]
        if match["escape"]:
            return match[0][1:]
        value = env.get(name)
        if how in (":+", "+"):
            origin = Origin("environment", name) if value else Origin("default", f"({name} is not set)")
            return word if value else ""
        if value or (value is not None and not how):
            origin = Origin("environment", name)
            return value
        if not how:
            raise MissingVariable(
                name,
                f"{spell(path)} needs the environment variable {name}, which is not set",
                where=where,
                remedy=f"Set it ({name}=...), or give a default in the file: ${{env.{name}:=default}}.",
            )
        origin = Origin("substitution default", f"({name} is not set)")
        return word

    result = _PATTERN.sub(replacement, text)
    origins[path] = origin
    return _NOTHING if result == "" else result
