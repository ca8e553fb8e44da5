"""A graph bank: entities and relations as chunks, found by neighbourhood.

Each entity and each relation that a document tells is a chunk of that document, so every backend can keep a graph,
and what a document told is forgotten with it.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from pydantic import ValidationError

from llama_stack.api.answers import collect
from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.common import Caller, JsonObject, Word
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.inference import ChatRequest, Inference, JsonSchemaFormat, TextFormat
from llama_stack.api.memory import Chunk, Entity, Facts, MemoryQuery, Relation
from llama_stack.api.messages import SystemMessage, UserMessage, text_of
from llama_stack.api.resources import GraphBank
from llama_stack.documents.blocks import ReadDocument
from llama_stack.documents.cutting import ChunkSettings, Piece, TokenCounter, cut
from llama_stack.errors import InvalidRequest, StructuredOutputInvalid
from llama_stack.gathering import gathered
from llama_stack.text import language_of, stems

PIECE_TOKENS = 512
PIECES_AT_ONCE = 4
MAX_FRONTIER = 200
"""Entities from which one step goes on: a hub must not draw in the whole bank."""
MAX_RELATIONS = 1000
"""Looked at in one step."""
NAMED_IN_QUESTION = 20

KIND, NAME, SUBJECT, OBJECT, RELATION = "graph", "graph_name", "graph_subject", "graph_object", "graph_relation"
"""Metadata of the chunks; filters may use them."""

INSTRUCTIONS = (
    "Read the text and list the entities it names and the relations it states between them. Use the text's own names. "
    "A relation has a subject, a short verb phrase, an object, and the words of the text that state it. "
    "List nothing that the text does not say."
)


class ExtractedFacts(Word):
    """What a model is asked for."""

    entities: list[Entity] = []
    relations: list[Relation] = []


def name_key(name: str) -> str:
    """What two spellings of one name have in common."""
    return " ".join(name.casefold().split())


def chunks_of_facts(facts: Facts, document_name: str = "", pieces: Sequence[Piece | None] = ()) -> list[Chunk]:
    """The chunks that keep the facts. pieces: where in the document each relation was read, in their order."""
    chunks = {}
    for entity in _entities_of(facts):
        content = f"{entity.name} ({entity.type})" if entity.type else entity.name
        if entity.description:
            content += f": {entity.description}"
        metadata = {**facts.metadata, KIND: "entity", NAME: name_key(entity.name)}
        chunk_id = _chunk_id(facts.document_id, "entity", name_key(entity.name))
        chunks[chunk_id] = _chunk(facts, chunk_id, content, metadata, document_name)
    for position, relation in enumerate(facts.relations):
        content = f"{relation.subject} {relation.relation} {relation.object}."
        if relation.evidence:
            content += f" ({relation.evidence})"
        metadata = {
            **facts.metadata,
            KIND: "relation",
            SUBJECT: name_key(relation.subject),
            RELATION: relation.relation,
            OBJECT: name_key(relation.object),
        }
        parts = (name_key(relation.subject), name_key(relation.relation), name_key(relation.object))
        chunk_id = _chunk_id(facts.document_id, "relation", *parts)
        piece = pieces[position] if position < len(pieces) else None
        chunks[chunk_id] = _chunk(facts, chunk_id, content, metadata, document_name, piece)
    return [chunk.model_copy(update={"position": position}) for position, chunk in enumerate(chunks.values())]


def with_metadata(chunk: Chunk, metadata: JsonObject) -> Chunk:
    """The chunk with other metadata of its document, and what makes it an entity or a relation."""
    own = {key: chunk.metadata[key] for key in (KIND, NAME, SUBJECT, RELATION, OBJECT) if key in chunk.metadata}
    return chunk.model_copy(update={"metadata": {**metadata, **own}})


def _entities_of(facts: Facts) -> list[Entity]:
    """Those that are listed, and those that only relations name."""
    listed = {name_key(entity.name): entity for entity in facts.entities}
    for relation in facts.relations:
        for name in (relation.subject, relation.object):
            listed.setdefault(name_key(name), Entity(name=name))
    return list(listed.values())


def _chunk_id(document_id: str, *parts: str) -> str:
    named = "\0".join((document_id, *parts))
    return f"fact_{sha256(named.encode(errors='replace')).hexdigest()[:40]}"


def _chunk(
    facts: Facts, chunk_id: str, content: str, metadata: JsonObject, document_name: str, piece: Piece | None = None
) -> Chunk:
    return Chunk(
        chunk_id=chunk_id,
        document_id=facts.document_id,
        document_name=document_name or facts.document_id,
        content=content,
        start=0 if piece is None else piece.start,
        end=0 if piece is None else piece.end,
        page=None if piece is None else piece.page,
        metadata=metadata,
    )


# --- reading them out of documents -----------------------------------------------------------------------------------


async def extracted_chunks(
    bank: GraphBank,
    document: ReadDocument,
    inference: Inference,
    count: TokenCounter,
    caller: Caller,
    *,
    document_id: str,
    name: str,
    metadata: JsonObject,
) -> list[Chunk]:
    """What the bank's model finds in the document, as far as the document names it.

    Raises InvalidRequest for a bank without a model, StructuredOutputInvalid when the model does not list facts, or
    none about what the document names.
    """
    if not bank.extraction_model:
        raise InvalidRequest(
            "this graph bank has no extraction_model that could read documents; bring facts instead, or give it one",
            param="extraction_model",
        )
    pieces = await cut(document, ChunkSettings(max_tokens=PIECE_TOKENS, overlap_tokens=0), count)
    turn = asyncio.Semaphore(PIECES_AT_ONCE)

    async def read(piece: Piece) -> ExtractedFacts:
        async with turn:
            return await _extracted(bank.extraction_model, piece.text, inference, caller)

    facts = Facts(document_id=document_id, metadata=metadata)
    where: list[Piece | None] = []
    listed = await gathered(map(read, pieces))
    grounds = await asyncio.to_thread(_Grounds, document.text)
    for piece, found in zip(pieces, map(grounds.kept, listed), strict=True):
        facts.entities.extend(found.entities)
        facts.relations.extend(found.relations)
        where.extend([piece] * len(found.relations))
    if not facts.entities and any(found.entities or found.relations for found in listed):
        raise StructuredOutputInvalid(
            f"the model {bank.extraction_model!r} lists nothing that the document names; use a larger extraction_model"
        )
    return chunks_of_facts(facts, name, where)


class _Grounds:
    """What a document names. Small models make entities up, or list those of their instructions."""

    def __init__(self, text: str) -> None:
        self._text = name_key(text)
        self._language = language_of(text)
        self._stems = frozenset(stems(text, self._language))

    def kept(self, found: ExtractedFacts) -> ExtractedFacts:
        """The entities that the document names, the relations between such, and the evidence that it says.

        An entity that only relations name is listed, too.
        """
        relations = [
            one if self._says(one.evidence) else one.model_copy(update={"evidence": ""})
            for one in found.relations
            if self._names(one.subject) and self._names(one.object)
        ]
        entities = [one for one in found.entities if self._names(one.name)]
        named = {name_key(one.name) for one in entities}
        for name in (name for one in relations for name in (one.subject, one.object)):
            if name_key(name) not in named:
                named.add(name_key(name))
                entities.append(Entity(name=name))
        return ExtractedFacts(entities=entities, relations=relations)

    def _says(self, words: str) -> bool:
        return name_key(words) in self._text

    def _names(self, name: str) -> bool:
        """As it is written, or by words that differ in their endings."""
        wanted = stems(name, self._language)
        return self._says(name) or (bool(wanted) and self._stems.issuperset(wanted))


async def _extracted(model: str, text: str, inference: Inference, caller: Caller) -> ExtractedFacts:
    able = inference.capabilities(model)
    schema = JsonSchemaFormat(name="facts", json_schema=ExtractedFacts.model_json_schema())
    request = ChatRequest(
        model=model,
        messages=[SystemMessage(content=INSTRUCTIONS), UserMessage(content=text)],
        response_format=schema if able.json_schema else TextFormat(),
        whole=True,
    )
    answer = await collect(inference.stream_chat(request, caller))
    said = text_of(answer.choices[0].message.content)
    try:
        return ExtractedFacts.model_validate_json(said)
    except ValidationError as error:
        raise StructuredOutputInvalid(
            f"the model {model!r} was asked for entities and relations as JSON and said: {said[:200]!r}"
        ) from error


# --- finding -------------------------------------------------------------------------------------------------------


async def neighbourhood(index: ChunkIndex, place: BankPlace, query: MemoryQuery) -> list[Chunk]:
    """What the bank knows around the entities that the query names, nearest first.

    Score: 1 for an entity that is asked for and its own relations, then a half, a third ... a step further.
    """
    asked = {name_key(name) for name in query.entities} or await _named(index, place, text_of(query.query))
    found: dict[str, Chunk] = {}
    known: set[str] = set()
    frontier = asked
    for step in range(query.depth):
        score = 1 / (step + 1)
        for chunk in await _told_of(index, place, frontier, query):
            found.setdefault(chunk.chunk_id, chunk.model_copy(update={"score": score}))
        known |= frontier
        met = {
            str(chunk.metadata[end])
            for chunk in found.values()
            if chunk.metadata.get(KIND) == "relation"
            for end in (SUBJECT, OBJECT)
        }
        frontier = set(sorted(met - known)[:MAX_FRONTIER])
        if not frontier:
            break
    ranked = sorted(
        found.values(), key=lambda chunk: (-chunk.score, chunk.metadata.get(KIND) == "entity", chunk.chunk_id)
    )
    return ranked[: query.max_chunks]


async def _named(index: ChunkIndex, place: BankPlace, question: str) -> set[str]:
    """Entities whose names share words with the question."""
    if not question.strip():
        raise InvalidRequest("a graph bank is asked for `entities`, or with a query that names some", param="query")
    only_entities = Comparison(type="eq", key=KIND, value="entity")
    found = await index.search_keyword(place, question, NAMED_IN_QUESTION, only_entities)
    said = name_key(question)
    names = {str(one.chunk.metadata[NAME]) for one in found}
    # A name that is said in full is meant; without any, names that share a word with the question may be.
    return {name for name in names if name in said} or names


async def _told_of(index: ChunkIndex, place: BankPlace, names: set[str], query: MemoryQuery) -> list[Chunk]:
    values = sorted(names)
    about = Compound(
        type="or",
        filters=[Comparison(type="in", key=key, value=list(values)) for key in (NAME, SUBJECT, OBJECT)],
    )
    where = about if query.filters is None else Compound(type="and", filters=[about, query.filters])
    return [one.chunk for one in await index.list_chunks(place, where=where, limit=MAX_RELATIONS)]
