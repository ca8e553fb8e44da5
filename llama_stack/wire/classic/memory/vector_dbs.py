"""Vector databases (`vector_dbs` of `llama-stack-client` 0.2.12): memory banks of kind vector, by their older name."""

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.wire.classic.body import ClassicBody, parse_body


class RegisterVectorDbBody(ClassicBody):
    """Body of POST /v1/vector-dbs. embedding_dimension: a hint; what the model says of itself counts."""

    vector_db_id: str = Field(min_length=1)
    embedding_model: str | None = None
    embedding_dimension: int | None = Field(None, ge=1)
    provider_id: str | None = None
    provider_vector_db_id: str | None = None


def decode_vector_db(body: object) -> MemoryBank:
    """A bank to register; what the body leaves open is empty. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RegisterVectorDbBody, body)
    return MemoryBank(
        identifier=parsed.vector_db_id,
        provider_id=parsed.provider_id or "",
        provider_resource_id=parsed.provider_vector_db_id or parsed.vector_db_id,
        bank=VectorBank(embedding_model=parsed.embedding_model or "", embedding_dimension=parsed.embedding_dimension),
    )


def encode_vector_db(bank: MemoryBank, kind: VectorBank) -> JsonObject:
    """kind: the bank's own."""
    return {
        "identifier": bank.identifier,
        "provider_id": bank.provider_id,
        "provider_resource_id": bank.provider_resource_id,
        "type": "vector_db",
        "embedding_model": kind.embedding_model,
        "embedding_dimension": kind.embedding_dimension or 0,
    }
