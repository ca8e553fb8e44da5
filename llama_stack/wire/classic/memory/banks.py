"""Memory banks of four kinds, as the memory API of 2024 registers and shows them (`memory_banks` of
`llama-stack-client` 0.0.63); what it had no word for is ours.
"""

from typing import Annotated, Literal

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.resources import BankKind, GraphBank, KeyValueBank, KeywordBank, MemoryBank, VectorBank
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.validation import Body


class KeyValueBankBody(Body):
    """provider_params: of the provider, such as the kind of index. All kinds take them."""

    memory_bank_type: Literal["keyvalue"]
    provider_params: JsonObject | None = None


class KeywordBankBody(Body):
    memory_bank_type: Literal["keyword"]
    chunk_size_in_tokens: int | None = Field(None, ge=16, le=8192)
    overlap_size_in_tokens: int | None = Field(None, ge=0, le=4096)
    provider_params: JsonObject | None = None


class VectorBankBody(Body):
    """embedding_model: left out, the stack's first. embedding_dimension: checked against the model's."""

    memory_bank_type: Literal["vector"]
    embedding_model: str | None = None
    embedding_dimension: int | None = Field(None, ge=1)
    chunk_size_in_tokens: int | None = Field(None, ge=16, le=8192)
    overlap_size_in_tokens: int | None = Field(None, ge=0, le=4096)
    provider_params: JsonObject | None = None


class GraphBankBody(Body):
    """extraction_model: a chat model that reads entities and relations out of documents."""

    memory_bank_type: Literal["graph"]
    extraction_model: str | None = None
    provider_params: JsonObject | None = None


BankParamsBody = Annotated[
    VectorBankBody | KeywordBankBody | KeyValueBankBody | GraphBankBody, Field(discriminator="memory_bank_type")
]


class RegisterMemoryBankBody(ClassicBody):
    """Body of POST /v1/memory-banks."""

    memory_bank_id: str = Field(min_length=1)
    params: BankParamsBody
    provider_id: str | None = None
    provider_memory_bank_id: str | None = None


def decode_memory_bank(body: object) -> MemoryBank:
    """A bank to register; what the body leaves open is empty. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RegisterMemoryBankBody, body)
    return MemoryBank(
        identifier=parsed.memory_bank_id,
        provider_id=parsed.provider_id or "",
        provider_resource_id=parsed.provider_memory_bank_id or parsed.memory_bank_id,
        bank=_decode_kind(parsed.params),
    )


def _decode_kind(body: VectorBankBody | KeywordBankBody | KeyValueBankBody | GraphBankBody) -> BankKind:
    params = body.provider_params or {}
    match body:
        case VectorBankBody():
            return VectorBank(
                embedding_model=body.embedding_model or "",
                embedding_dimension=body.embedding_dimension,
                chunk_size_tokens=body.chunk_size_in_tokens,
                overlap_size_tokens=body.overlap_size_in_tokens,
                params=params,
            )
        case KeywordBankBody():
            return KeywordBank(
                chunk_size_tokens=body.chunk_size_in_tokens,
                overlap_size_tokens=body.overlap_size_in_tokens,
                params=params,
            )
        case KeyValueBankBody():
            return KeyValueBank(params=params)
        case GraphBankBody():
            return GraphBank(extraction_model=body.extraction_model or "", params=params)


def encode_memory_bank(bank: MemoryBank) -> JsonObject:
    return {
        "identifier": bank.identifier,
        "provider_id": bank.provider_id,
        "provider_resource_id": bank.provider_resource_id,
        "type": "memory_bank",
        "memory_bank_type": bank.bank.kind,
        **_encode_kind(bank.bank),
        "provider_params": bank.bank.params,
    }


def _encode_kind(kind: BankKind) -> JsonObject:
    match kind:
        case VectorBank():
            return {
                "embedding_model": kind.embedding_model,
                "embedding_dimension": kind.embedding_dimension,
                "chunk_size_in_tokens": kind.chunk_size_tokens,
                "overlap_size_in_tokens": kind.overlap_size_tokens,
            }
        case KeywordBank():
            return {
                "chunk_size_in_tokens": kind.chunk_size_tokens,
                "overlap_size_in_tokens": kind.overlap_size_tokens,
            }
        case KeyValueBank():
            return {}
        case GraphBank():
            return {"extraction_model": kind.extraction_model}
