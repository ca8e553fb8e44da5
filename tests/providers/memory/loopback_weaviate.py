"""A server that speaks the part of Weaviate's REST and GraphQL that a memory provider uses.

Formats: docs.weaviate.io, "Schema", "Batch objects", "Conditional filters", "Search operators", "Aggregate". Filters
are evaluated as Weaviate's inverted index does: text tokenized as `field` is trimmed and compared by bytes, NotEqual
selects what has no such value, and a property that the collection has not is an error.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from graphql import (
    EnumValueNode,
    FieldNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    StringValueNode,
    ValueNode,
    parse,
)

from tests.providers.memory.loopback_database import LoopbackDatabase, bm25, cosine

VALUES = ("valueText", "valueTextArray")


class BadQuery(Exception):
    pass


@dataclass
class Collection:
    told: dict[str, Any]
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_replicated(self) -> bool:
        return bool(self.told.get("replicationConfig", {}).get("factor", 1) > 1)

    @property
    def properties(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.told["properties"]}


@dataclass
class LoopbackWeaviate(LoopbackDatabase):
    """most_deleted: QUERY_MAXIMUM_RESULTS, as far as it holds for deletions."""

    collections: dict[str, Collection] = field(default_factory=dict)
    most_deleted: int = 300

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/v1/.well-known/ready", self._ready),
            web.post("/v1/schema", self._create),
            web.get("/v1/schema/{name}", self._describe),
            web.delete("/v1/schema/{name}", self._drop),
            web.post("/v1/schema/{name}/properties", self._add_property),
            web.post("/v1/batch/objects", self._put),
            web.delete("/v1/batch/objects", self._delete),
            web.patch("/v1/objects/{name}/{id}", self._patch),
            web.post("/v1/graphql", self._graphql),
        ]

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _create(self, request: web.Request) -> web.Response:
        told = await request.json()
        if told["class"] in self.collections:
            return _failed(422, f"class name {told['class']} already exists")
        if not told["class"][0].isupper():
            return _failed(422, f"'{told['class']}' is not a valid class name")
        self.collections[told["class"]] = Collection(told)
        return web.json_response(told)

    async def _describe(self, request: web.Request) -> web.Response:
        found = self.collections.get(request.match_info["name"])
        return web.Response(status=404) if found is None else web.json_response(found.told)

    async def _drop(self, request: web.Request) -> web.Response:
        self.collections.pop(request.match_info["name"], None)
        return web.Response()

    async def _add_property(self, request: web.Request) -> web.Response:
        collection, told = self.collections[request.match_info["name"]], await request.json()
        if told["name"] in collection.properties:
            return _failed(422, f"class property '{told['name']}' is already in use")
        collection.told["properties"].append(told)
        return web.json_response(told)

    async def _put(self, request: web.Request) -> web.Response:
        answers = []
        for one in (await request.json())["objects"]:
            problem = self._problem(one)
            if problem is None:
                # A newer version comes last, as in the real one, where it gets a new internal id.
                objects = self.collections[one["class"]].objects
                objects.pop(one["id"], None)
                objects[one["id"]] = one
                # Others may search while a batch is under way.
                await asyncio.sleep(0)
                answers.append({"id": one["id"], "result": {"status": "SUCCESS"}})
            else:
                answers.append({**one, "result": {"status": "FAILED", "errors": {"error": [{"message": problem}]}}})
        return web.json_response(answers)

    def _problem(self, one: dict[str, Any]) -> str | None:
        collection = self.collections.get(one["class"])
        if collection is None:
            return f"class {one['class']} not found in schema"
        unknown = set(one["properties"]) - set(collection.properties)
        if unknown:
            return f"no such prop with name '{unknown.pop()}' found in class '{one['class']}'"
        width = next((len(other["vector"]) for other in collection.objects.values() if "vector" in other), None)
        if "vector" in one and width not in (None, len(one["vector"])):
            return f"new node has a vector with length {len(one['vector'])}. Existing nodes have {width}"
        return None

    async def _delete(self, request: web.Request) -> web.Response:
        match = (await request.json())["match"]
        collection = self.collections.get(match["class"])
        if collection is None:
            return _failed(422, f"class {match['class']} not found")
        try:
            fits = _compiled(match["where"], collection)
            selected = [key for key, one in collection.objects.items() if fits(one)]
        except BadQuery as problem:
            return _failed(422, str(problem))
        for key in selected[: self.most_deleted]:
            collection.objects.pop(key, None)
            await asyncio.sleep(0)
        results = {"matches": len(selected), "limit": self.most_deleted, "failed": 0, "objects": None}
        results["successful"] = min(len(selected), self.most_deleted)
        return web.json_response({"match": match, "output": "minimal", "results": results})

    async def _patch(self, request: web.Request) -> web.Response:
        one = self.collections[request.match_info["name"]].objects.get(request.match_info["id"])
        if one is None:
            return _failed(404, "no object with id")
        for name, value in (await request.json())["properties"].items():
            if value is None:
                one["properties"].pop(name, None)
            else:
                one["properties"][name] = value
            one.get("tokens", {}).pop(name, None)
        return web.Response(status=204)

    async def _graphql(self, request: web.Request) -> web.Response:
        operation = parse((await request.json())["query"], no_location=True).definitions[0]
        assert isinstance(operation, OperationDefinitionNode)
        (function,) = _fields(operation)
        (asked,) = _fields(function)
        try:
            collection = self.collections.get(asked.name.value)
            if collection is None:
                raise BadQuery(f'Cannot query field "{asked.name.value}" on type "{function.name.value}ObjectsObj".')
            arguments = {one.name.value: _value(one.value) for one in asked.arguments or ()}
            if "consistencyLevel" in arguments and not collection.is_replicated:
                raise BadQuery(f'Unknown argument "consistencyLevel" on field "{asked.name.value}"')
            run = _get if function.name.value == "Get" else _aggregate
            found = run(collection, arguments, asked)
        except BadQuery as problem:
            return web.json_response({"data": None, "errors": [{"message": str(problem), "path": ["Get"]}]})
        return web.json_response({"data": {function.name.value: {asked.name.value: found}}})


def _failed(status: int, message: str) -> web.Response:
    return web.json_response({"error": [{"message": message}]}, status=status)


def _fields(node: OperationDefinitionNode | FieldNode) -> list[FieldNode]:
    chosen = node.selection_set
    return [one for one in (chosen.selections if chosen else ()) if isinstance(one, FieldNode)]


def _value(node: ValueNode) -> Any:
    match node:
        case ObjectValueNode():
            return {one.name.value: _value(one.value) for one in node.fields}
        case ListValueNode():
            return [_value(one) for one in node.values]
        case IntValueNode() | FloatValueNode():
            return json.loads(node.value)
        case StringValueNode() | EnumValueNode():
            return node.value
        case _:
            raise BadQuery(f"a value of kind {node.kind} is not expected here")


def _get(collection: Collection, arguments: dict[str, Any], asked: FieldNode) -> list[dict[str, Any]]:
    fits = _compiled(arguments.get("where"), collection)
    selected = {key: one for key, one in collection.objects.items() if fits(one)}
    additional: dict[str, dict[str, Any]] = {key: {"id": key} for key in selected}
    if "nearVector" in arguments:
        query = arguments["nearVector"]["vector"]
        far = {key: 1 - cosine(query, one["vector"]) for key, one in selected.items() if "vector" in one}
        names = sorted(far, key=lambda key: far[key])
        for key in names:
            additional[key]["distance"] = far[key]
    elif "bm25" in arguments:
        (searched,) = arguments["bm25"]["properties"]
        everything = {
            key: one["properties"][searched].split()
            for key, one in collection.objects.items()
            if searched in one["properties"]
        }
        scores = bm25(everything, arguments["bm25"]["query"].split())
        names = sorted((key for key in scores if key in selected), key=lambda key: -scores[key])
        for key in names:
            additional[key]["score"] = str(scores[key])
    else:
        (by,) = arguments.get("sort", [{"path": ["kind"]}])
        names = sorted(selected, key=lambda key: selected[key]["properties"].get(by["path"][0], ""))
    return [_shown(selected[key], additional[key], asked, collection) for key in names[: arguments["limit"]]]


def _shown(one: dict[str, Any], told: dict[str, Any], asked: FieldNode, collection: Collection) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for wanted in _fields(asked):
        name = wanted.name.value
        if name == "_additional":
            told = {**told, "vector": one.get("vector")}
            shown[name] = {part.name.value: told.get(part.name.value) for part in _fields(wanted)}
        elif name in collection.properties:
            shown[name] = one["properties"].get(name)
        else:
            raise BadQuery(f'Cannot query field "{name}"')
    return shown


def _aggregate(collection: Collection, arguments: dict[str, Any], asked: FieldNode) -> list[dict[str, Any]]:
    fits = _compiled(arguments.get("where"), collection)
    selected = [one for one in collection.objects.values() if fits(one)]
    if "groupBy" in arguments:
        (name,) = arguments["groupBy"]
        values = {one["properties"][name] for one in selected if name in one["properties"]}
        return [{"groupedBy": {"value": value}} for value in sorted(values)]
    return [{"meta": {"count": len(selected)}}]


Fits = Callable[[dict[str, Any]], bool]


def _compiled(where: dict[str, Any] | None, collection: Collection) -> Fits:
    """The condition as a test of an object."""
    if where is None:
        return lambda one: True
    operator = where["operator"]
    if operator in ("And", "Or"):
        parts = [_compiled(part, collection) for part in where["operands"]]
        joined = all if operator == "And" else any
        return lambda one: joined(part(one) for part in parts)
    (name,) = where["path"]
    kept = collection.properties.get(name)
    if kept is None:
        raise BadQuery(f"no such prop with name '{name}' found in class")
    if not kept["indexFilterable"]:
        raise BadQuery(f"Filtering by property '{name}' requires inverted index")
    (wanted,) = (set(_tokens(where[value])) for value in VALUES if value in where)
    holds = _operators(wanted).get(operator)
    if holds is None:
        raise BadQuery(f"unknown operator {operator}")

    def fits(one: dict[str, Any]) -> bool:
        known = one.setdefault("tokens", {})
        if name not in known:
            known[name] = set(_tokens(one["properties"].get(name)))
        return holds(known[name])

    return fits


def _operators(wanted: set[bytes]) -> dict[str, Callable[[set[bytes]], bool]]:
    bound = max(wanted, default=b"")
    return {
        "ContainsAny": lambda found: not wanted.isdisjoint(found),
        "Equal": lambda found: wanted <= found,
        "NotEqual": lambda found: wanted.isdisjoint(found),
        "GreaterThan": lambda found: any(value > bound for value in found),
        "GreaterThanEqual": lambda found: any(value >= bound for value in found),
        "LessThan": lambda found: any(value < bound for value in found),
        "LessThanEqual": lambda found: any(value <= bound for value in found),
    }


def _tokens(value: Any) -> Iterator[bytes]:
    for text in value if isinstance(value, list) else [value]:
        if text is not None:
            yield text.strip().encode()
