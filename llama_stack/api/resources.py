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
    """Documents found by meaning and by their words: chunks of tokens of the model that embeds them.

    embedding_model: empty means the stack's first. embedding_dimension: checked against the model's.
    chunk_size_tokens: None is what suits the model, at most 512. overlap_size_tokens: None is an eighth of it.
    params: of the provider, such as the kind of index.
    """

    kind: Literal["vector"] = "vector"
    embedding_model: str = ""
    embedding_dimension: int | None = Field(default=None, ge=1)
    chunk_size_tokens: int | None = Field(default=None, ge=16, le=8192)
    overlap_size_tokens: int | None = Field(default=None, ge=0, le=4096)
    params: JsonObject = {}


class KeywordBank(Word):
    """Documents found by their words (BM25); sizes are estimates, as no model counts the tokens."""

    kind: Literal["keyword"] = "keyword"
    chunk_size_tokens: int | None = Field(default=None, ge=16, le=8192)
    overlap_size_tokens: int | None = Field(default=None, ge=0, le=4096)
    params: JsonObject = {}


class KeyValueBank(Word):
    """Values found by exact key, which is the document's id."""

    kind: Literal["keyvalue"] = "keyvalue"
    params: JsonObject = {}


class GraphBank(Word):
    """Entities and the relations between them, found by neighbourhood.

    extraction_model: a chat model that reads them out of documents; empty where callers bring them.
    """

    kind: Literal["graph"] = "graph"
    extraction_model: str = ""
    params: JsonObject = {}


BankKind = Annotated[VectorBank | KeywordBank | KeyValueBank | GraphBank, Field(discriminator="kind")]


class MemoryBank(Word):
    """A named store of knowledge an agent can search."""

    identifier: str
    provider_id: str
    provider_resource_id: str
    bank: BankKind


Resource = Model | Shield | MemoryBank | ToolGroup
