"""What a function's docstring says about the function and about each parameter.

Understood are the three common forms: Google (`Args:` with indented entries; Google Python Style Guide 3.8.3), NumPy
(`Parameters` underlined with dashes; numpydoc format guide) and Sphinx (`:param name:` fields).
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field

_GOOGLE_PARAMETERS = {"args", "arguments", "parameters", "params", "keyword args", "keyword arguments"}
_GOOGLE_OTHERS = {
    "returns",
    "return",
    "yields",
    "raises",
    "example",
    "examples",
    "note",
    "notes",
    "warning",
    "see also",
}
_GOOGLE_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY_ENTRY = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?$")
_SPHINX_ENTRY = re.compile(r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")
_SPHINX_FIELD = re.compile(r":\w+[^:]*:")
_UNDERLINE = re.compile(r"-{3,}\s*$")


@dataclass
class Docstring:
    """description: the text before the first section; parameters: name to description, those that have one."""

    description: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read_docstring(function: Callable[..., object]) -> Docstring:
    """Empty where there is no docstring."""
    lines = (inspect.getdoc(function) or "").splitlines()
    found = Docstring()
    body = len(lines)
    for position, line in enumerate(lines):
        if not _begins_section(lines, position):
            continue
        body = min(body, position)
        if _is_google_heading(line, _GOOGLE_PARAMETERS):
            found.parameters.update(_google_entries(lines[position + 1 :]))
        elif line.strip().lower() in ("parameters", "other parameters"):
            found.parameters.update(_numpy_entries(lines[position + 2 :]))
        elif entry := _SPHINX_ENTRY.match(line.strip()):
            found.parameters[entry[1]] = _joined([entry[2], *_until(lines[position + 1 :], _ends_sphinx_field)])
    found.description = _paragraphs(lines[:body])
    return found


def _begins_section(lines: list[str], position: int) -> bool:
    line = lines[position]
    if _is_google_heading(line, _GOOGLE_PARAMETERS | _GOOGLE_OTHERS) or _SPHINX_FIELD.match(line.strip()):
        return True
    return bool(line.strip()) and position + 1 < len(lines) and bool(_UNDERLINE.match(lines[position + 1]))


def _is_google_heading(line: str, headings: set[str]) -> bool:
    return line.rstrip().endswith(":") and line.strip()[:-1].lower() in headings and not line.startswith(" ")


def _google_entries(lines: list[str]) -> dict[str, str]:
    return _indented_entries(_until(lines, _is_at_margin), _GOOGLE_ENTRY)


def _numpy_entries(lines: list[str]) -> dict[str, str]:
    """Entries stand at the margin, their text is indented; the next underlined heading ends the block."""
    entries: dict[str, str] = {}
    for position, line in enumerate(lines):
        if _begins_section(lines, position):
            break
        if line.startswith((" ", "\t")) or not (entry := _NUMPY_ENTRY.match(line.strip())):
            continue
        text = _joined(_until(lines[position + 1 :], _is_at_margin))
        entries.update({name.strip(): text for name in entry[1].split(",") if text})
    return entries


def _indented_entries(block: list[str], pattern: re.Pattern[str]) -> dict[str, str]:
    """Entries at the block's own indent; deeper lines go on with the entry above them."""
    entries: dict[str, list[str]] = {}
    indents = [len(line) - len(line.lstrip()) for line in block if line.strip()]
    current: list[str] = []
    for line in block:
        at_margin = len(line) - len(line.lstrip()) == min(indents)
        if line.strip() and at_margin and (entry := pattern.match(line.strip())):
            current = entries.setdefault(entry[1], [entry[2]])
        else:
            current.append(line)
    return {name: text for name, parts in entries.items() if (text := _joined(parts))}


def _is_at_margin(line: str) -> bool:
    return bool(line.strip()) and not line.startswith((" ", "\t"))


def _ends_sphinx_field(line: str) -> bool:
    return not line.strip() or bool(_SPHINX_FIELD.match(line.strip()))


def _until(lines: list[str], ends: Callable[[str], bool]) -> list[str]:
    taken: list[str] = []
    for line in lines:
        if ends(line):
            break
        taken.append(line)
    return taken


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _paragraphs(lines: list[str]) -> str:
    text = "\n".join(line.rstrip() for line in lines).strip()
    return "\n\n".join(_joined(part.splitlines()) for part in re.split(r"\n\s*\n", text) if part.strip())
