"""Where a caller's share of a bank lies in its provider."""

from hashlib import sha256

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.common import Caller
from llama_stack.api.resources import KeyValueBank, MemoryBank, VectorBank

KEY_DIGITS = 32


def place_of(bank: MemoryBank, caller: Caller) -> BankPlace:
    """The place of the bank's chunks that are this caller's.

    Its key is a digest of owner and bank, so two owners' banks never meet, whatever they are called: not in a bank
    of the distribution that both may use, and not where both name the same resource of a provider.
    """
    named = "\0".join((caller.owner, bank.provider_id, bank.provider_resource_id))
    kind = bank.bank
    return BankPlace(
        key=f"bank_{sha256(named.encode()).hexdigest()[:KEY_DIGITS]}",
        dimension=(kind.embedding_dimension or 0) if isinstance(kind, VectorBank) else 0,
        keyword=not isinstance(kind, KeyValueBank),
        params=kind.params,
    )
