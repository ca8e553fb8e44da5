"""What can be set about each kind of index.

flat: every vector is compared; exact. hnsw: a graph of near neighbours (Malkov and Yashunin, TPAMI 2020); finds
nearly all of the nearest in a fraction of the time, for a fifth more memory and slower writes. ivf_pq: vectors in
lists around centres, compressed (Jégou et al., TPAMI 2011); for banks that would not fit into memory.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Flat(BaseModel):
    """Exact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["flat"] = "flat"


class Hnsw(BaseModel):
    """m: neighbours of each vector. ef_construction, ef_search: how many are looked at when adding and searching."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hnsw"] = "hnsw"
    m: int = Field(32, ge=4, le=128)
    ef_construction: int = Field(40, ge=8, le=1_000)
    ef_search: int = Field(96, ge=8, le=4_096)


class IvfPq(BaseModel):
    """lists, probes: how many lists there are and how many a search reads; lists: default four times the square root
    of the chunks. subvectors: bytes that a vector is compressed to, a divisor of its dimension; default: the greatest
    up to an eighth. train_from: chunks from which on the bank is compressed; fewer are kept as `flat`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ivf_pq"] = "ivf_pq"
    lists: int | None = Field(None, ge=1, le=65_536)
    probes: int = Field(32, ge=1, le=65_536)
    subvectors: int | None = Field(None, ge=1, le=4_096)
    train_from: int = Field(20_000, ge=1_000)

    def subvectors_of(self, dimension: int) -> int:
        """Raises ValueError where the setting does not divide the dimension."""
        if self.subvectors is None:
            return max(count for count in range(1, max(dimension // 8, 1) + 1) if dimension % count == 0)
        if dimension % self.subvectors:
            raise ValueError(f"subvectors: {self.subvectors} does not divide the dimension, {dimension}")
        return self.subvectors


IndexKind = Annotated[Flat | Hnsw | IvfPq, Field(discriminator="kind")]
