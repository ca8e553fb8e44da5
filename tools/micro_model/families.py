"""Tool families from `data/families`, and concrete tools drawn from them with fresh names, keys and descriptions.

A model this small memorises fixed lists instead of reading the prompt. So a good part of all tools gets an invented
name, invented parameter names, no description or another order of parameters: the only way to a right call is then to
copy from the tool's definition. At least one of name and description always tells what the tool does.
"""

import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.micro_model.phrases import as_user_message, choose
from tools.micro_model.values import Argument, choices, draw_value
from tools.micro_model.vocabulary import Words

FAMILIES = Path(__file__).parent / "data" / "families"
FIELD = re.compile(r"\{(\d)\}")


@dataclass(frozen=True)
class ParameterKind:
    names: tuple[str, ...]
    json_type: str
    value: str
    descriptions: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    group: str
    parameters: tuple[ParameterKind, ...]
    asks: tuple[str, ...]

    @property
    def always_asked(self) -> set[int]:
        """Parameters that every ask mentions; the others are optional."""
        return set.intersection(*({int(number) for number in FIELD.findall(ask)} for ask in self.asks))


def read_parameter(line: str) -> ParameterKind:
    names, json_type, value, descriptions = (part.strip() for part in line.split(";"))
    return ParameterKind(
        tuple(names.split()), json_type, value, tuple(part.strip() for part in descriptions.split("|"))
    )


@cache
def load_families() -> list[Family]:
    """Every family of every file, in file order."""
    families = []
    for path in sorted(FAMILIES.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()):
            families.append(
                Family(
                    names=tuple(entry["names"].split()),
                    descriptions=tuple(part.strip() for part in entry["says"].split("|")),
                    group=entry["group"],
                    parameters=tuple(read_parameter(line) for line in entry["params"]),
                    asks=tuple(entry["asks"]),
                )
            )
    return families


@dataclass
class Parameter:
    """A parameter of one concrete tool."""

    name: str
    kind: ParameterKind
    description: str
    required: bool
    shows_choices: bool
    default: Argument | None = None

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": self.kind.json_type}
        if self.description:
            schema["description"] = self.description
        pairs = choices(self.kind.value)
        if pairs and self.shows_choices and self.kind.json_type == "string":
            schema["enum"] = list(dict.fromkeys(argument for _, argument in pairs))
        if self.default is not None:
            schema["default"] = self.default
        return schema


def alphabetical(definition: dict[str, Any]) -> dict[str, Any]:
    """The same definition as Pydantic writes it for a Python function: the keys of every schema sorted."""
    parameters = definition["function"]["parameters"]
    properties = {name: dict(sorted(schema.items())) for name, schema in parameters["properties"].items()}
    ordered = dict(sorted((parameters | {"properties": properties}).items()))
    return {"type": "function", "function": definition["function"] | {"parameters": ordered}}


@dataclass
class Tool:
    """One concrete tool and how it can be asked for."""

    name: str
    description: str
    group: str
    parameters: list[Parameter]
    asks: tuple[str, ...]
    schema_order: list[int]
    strict: bool
    says_required: bool = True

    def definition(self) -> dict[str, Any]:
        """The JSON the prompt shows, with its keys in the order people write them."""
        properties = {self.parameters[index].name: self.parameters[index].schema() for index in self.schema_order}
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        required = [self.parameters[index].name for index in self.schema_order if self.parameters[index].required]
        if required and self.says_required:
            parameters["required"] = required
        if self.strict:
            parameters["additionalProperties"] = False
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": function | {"parameters": parameters}}

    def request(self, words: Words) -> tuple[str, dict[str, Argument]]:
        """A user's message for this tool and the arguments of the right call, in schema order."""
        ask = choose(words.rng.choice(self.asks), words.rng)
        values = [draw_value(parameter.kind.value, parameter.kind.json_type, words) for parameter in self.parameters]
        asked = {int(number) for number in FIELD.findall(ask)}
        text = polite(FIELD.sub(lambda found: values[int(found.group(1))].said, ask), words)
        arguments = {
            self.parameters[index].name: values[index].argument for index in self.schema_order if index in asked
        }
        starts_with_value = ask.startswith("{") and text.startswith(values[int(ask[1])].said)
        return as_user_message(text, words.rng, keep_case=starts_with_value), arguments


def polite(text: str, words: Words) -> str:
    """Sometimes a polite word before or after; it never belongs to a value."""
    rng = words.rng
    draw = rng.random()
    if draw < 0.14:
        return f"{words.listed('polite_starts')} {text}"
    if draw < 0.24:
        return text + words.listed("polite_ends")
    return text


def joined(parts: list[str], rng: random.Random) -> str:
    """An identifier in one of the usual spellings."""
    style = rng.random()
    if style < 0.75:
        return "_".join(parts)
    if style < 0.9:
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return "-".join(parts) if style < 0.95 else "".join(parts)


def invented_name(words: Words) -> str:
    rng = words.rng
    return joined([words.word() for _ in range(rng.choice([1, 1, 2, 2]))], rng)


def parameter_name(kind: ParameterKind, taken: set[str], words: Words, invent: float) -> str:
    name = words.rng.choice(kind.names)
    if words.rng.random() < invent:
        name = invented_name(words).replace("-", "_")
    while name in taken:
        name = invented_name(words).replace("-", "_")
    return name


def draw_tool(family: Family, words: Words, invent_names: float = 0.3, invent_keys: float = 0.3) -> Tool:
    """A concrete tool of this family."""
    rng = words.rng
    name = rng.choice(family.names)
    if rng.random() < 0.12:
        name = joined([words.listed("actions"), *name.split("_")[-1:]], rng)
    description = rng.choice(family.descriptions) if rng.random() < 0.88 else ""
    if rng.random() < invent_names:
        name, description = invented_name(words), rng.choice(family.descriptions)
    elif description and rng.random() < 0.1:
        description += rng.choice(
            [".", ".", f" in {words.place()}", f" ({words.word()})", f". Part of {words.name()}."]
        )
    parameters: list[Parameter] = []
    always = family.always_asked
    described = rng.random() < 0.75
    for index, kind in enumerate(family.parameters):
        taken = {parameter.name for parameter in parameters}
        same_type = sum(other.json_type == kind.json_type for other in family.parameters)
        invent = invent_keys if same_type == 1 or described else 0.0
        keeps_description = described and (same_type > 1 or rng.random() < 0.8)
        text = rng.choice(kind.descriptions) if keeps_description else ""
        default = None
        if index not in always and rng.random() < 0.4:
            default = draw_value(kind.value, kind.json_type, words).argument
        key = parameter_name(kind, taken, words, invent)
        parameters.append(Parameter(key, kind, text, index in always, rng.random() < 0.5, default))
    order = list(range(len(parameters)))
    if rng.random() < 0.25:
        rng.shuffle(order)
    return Tool(
        name, description, family.group, parameters, family.asks, order, rng.random() < 0.15, rng.random() < 0.97
    )


GENERIC_ASKS = {
    1: [
        "[verb] the [noun] {0}",
        "[verb] [noun] {0}",
        "I want to [verb] the [noun] {0}",
        "[noun] {0}, [verb] it",
        "[verb] {0} as [noun]",
        "[noun] of {0}",
        "the [noun] [of|for] {0}",
        "what is the [noun] of {0}",
        "[verb] {0}",
        "which [noun] [has|is] {0}",
        "[verb] the [noun] for {0}",
        "can we [verb] the [noun] {0}",
    ],
    2: [
        "[verb] the [noun] {0} with [key1] {1}",
        "[verb] [noun] {0}, [key1] {1}",
        "[noun] {0}, [key1] {1}",
        "[verb] {0} [as|for] [noun], the [key1] is {1}",
        "[verb] the [noun], [key0] {0} and [key1] {1}",
        "I want to [verb] the [noun] {0}, [key1]: {1}",
        "[key1] {1} for the [noun] {0}",
    ],
}
GENERIC_KINDS = [
    ("string", "word"),
    ("string", "words"),
    ("string", "name"),
    ("string", "place"),
    ("string", "person"),
    ("integer", "any"),
    ("integer", "small"),
    ("string", "code"),
    ("number", "medium"),
    ("string", "topic"),
    ("string", "day"),
    ("string", "user_name"),
]


def generic_tool(words: Words) -> Tool:
    """A tool nobody has thought of: any verb on any noun; the request shares words with its name or its keys."""
    rng = words.rng
    verb = words.listed("actions") if rng.random() < 0.5 else words.listed("verbs")
    noun = words.word()
    count = rng.choice([1, 1, 2])
    keys: list[str] = []
    while len(keys) < count:
        key = words.word()
        if key not in (*keys, noun, verb):
            keys.append(key)
    kinds = [
        ParameterKind(
            (key,), *rng.choice(GENERIC_KINDS), (f"The {key}", f"{key.capitalize()} of the {noun}", f"Which {key}")
        )
        for key in keys
    ]
    asks = []
    for ask in GENERIC_ASKS[count]:
        filled = ask.replace("[verb]", verb).replace("[noun]", noun)
        for index, key in enumerate(keys):
            filled = filled.replace(f"[key{index}]", key)
        asks.append(filled)
    descriptions = (
        f"{verb.capitalize()} the {noun}",
        f"{verb.capitalize()} a {noun} by {keys[0]}",
        f"{verb.capitalize()}s {noun}",
        f"Can {verb} the {noun} of a {words.word()}",
    )
    name = joined([verb, noun] if rng.random() < 0.8 else [noun, verb], rng)
    family = Family((name,), descriptions, f"generic {noun}", tuple(kinds), tuple(asks))
    return draw_tool(family, words, invent_names=0.15, invent_keys=0.0)
