"""Resources: the named things a distribution offers, each owned by one provider."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from llama_stack.api.common import JsonObject, Word
from llama_stack.api.tools import ToolGroup


class ModelType(StrEnum):
    LLM = "llm"
    EMBEDDING = "embedding"
    RERANK = "rerank"


class Model(Word):
    """A model the stack serves.

    identifier: the name callers use. provider_resource_id: the provider's own name for it.
    context_length: tokens of prompt and answer together; None where the provider does not say.
    embedding_dimension: width of the vectors of an embedding model.
    created: seconds since 1970 when it was registered, 0 when it comes with the distribution.
    """

    identifier: str
    provider_id: str
    provider_resource_id: str
    model_type: ModelType = ModelType.LLM
    context_length: int | None = None
    embedding_dimension: int | None = None
    created: int = 0
    metadata: JsonObject = {}


class Shield(Word):
    """A safety check. `params` belong to the provider (such as the guard model and the categories it blocks)."""

    identifier: str
    provider_id: str
    provider_resource_id: str
    params: JsonObject = {}


class VectorBank(Word):
    """Documents found by meaning: chunks of `chunk_size_tokens` with `overlap_size_tokens`, embedded by one model."""

    kind: Literal["vector"] = "vector"
    embedding_model: str
    chunk_size_tokens: int = 512
    overlap_size_tokens: int = 64


class KeywordBank(Word):
    """Documents found by their words (BM25)."""

    kind: Literal["keyword"] = "keyword"


class KeyValueBank(Word):
    """Values found by exact key."""

    kind: Literal["keyvalue"] = "keyvalue"


class GraphBank(Word):
    """Entities and the relations between them, found by neighbourhood."""

    kind: Literal["graph"] = "graph"


BankKind = Annotated[VectorBank | KeywordBank | KeyValueBank | GraphBank, Field(discriminator="kind")]


class MemoryBank(Word):
    """A named store of knowledge an agent can search."""

    identifier: str
    provider_id: str
    provider_resource_id: str
    bank: BankKind


Resource = Model | Shield | MemoryBank | ToolGroup
