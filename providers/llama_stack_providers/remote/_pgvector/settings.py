"""How a bank's vectors are found, and what is written down with its table. Imported with the declaration."""

from typing import Literal

from pydantic import Field

from llama_stack.api.chunk_index import BankPlace
from llama_stack.errors import InvalidRequest
from llama_stack.provider import ProviderConfig
from llama_stack_providers._vector_database.bank_settings import settings_of as _settings_of
from llama_stack_providers._vector_database.checks import check_dimension

MAX_DIMENSION = 16_000
"""Of the type `vector` (pgvector's README, "Vector Type")."""
MAX_HNSW_DIMENSION = 2_000
"""Of an index over `vector` (pgvector's README, "HNSW")."""
FORMAT = 1
"""Of a bank's table. It is raised when a table of before cannot be read as it is."""


class BankSettings(ProviderConfig):
    """The provider's `index` setting, and `params` of a bank. The names are pgvector's own."""

    index: Literal["exact", "hnsw"] = Field("exact", description="hnsw is faster from some 10,000 chunks, not exact")
    m: int = Field(16, ge=2, le=100, description="of HNSW: connections of each element")
    ef_construction: int = Field(64, ge=4, le=1000, description="of HNSW: candidates while building, at least 2 m")
    ef_search: int = Field(100, ge=1, le=1000, description="of HNSW: candidates while searching; more find better")
    exact_below: int = Field(5_000, ge=0, description="of HNSW: smaller banks are searched exactly")


def settings_of(bank: BankPlace, defaults: BankSettings) -> BankSettings:
    """The bank's own settings over the provider's. Raises InvalidRequest for what cannot be served."""
    settings = _settings_of(bank, defaults, "pgvector")
    check_dimension(bank, MAX_DIMENSION, "pgvector")
    if settings.index == "hnsw" and bank.dimension > MAX_HNSW_DIMENSION:
        raise InvalidRequest(
            f"an HNSW index of pgvector takes vectors of up to {MAX_HNSW_DIMENSION} numbers, not {bank.dimension}:"
            " use the index 'exact', or an embedding model of fewer dimensions",
            param="params.index",
        )
    if settings.index == "hnsw" and settings.ef_construction < 2 * settings.m:
        raise InvalidRequest(
            f"ef_construction must be at least twice m, {2 * settings.m}", param="params.ef_construction"
        )
    return settings
