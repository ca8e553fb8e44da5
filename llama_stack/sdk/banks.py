"""A bank that is asked for, and the one that is there: whether they are the same."""

from typing import Literal

from llama_stack.api.memory import BankRecord, Expiry
from llama_stack.api.resources import BankKind, GraphBank, KeyValueBank, KeywordBank, MemoryBank, VectorBank
from llama_stack.errors import Conflict, InvalidRequest

KindName = Literal["vector", "keyword", "keyvalue", "graph"]

_KINDS: dict[str, type[VectorBank | KeywordBank | KeyValueBank | GraphBank]] = {
    "vector": VectorBank,
    "keyword": KeywordBank,
    "keyvalue": KeyValueBank,
    "graph": GraphBank,
}


def kind_of(kind: KindName | BankKind) -> BankKind:
    """Raises InvalidRequest for a name that no kind has."""
    if not isinstance(kind, str):
        return kind
    if kind not in _KINDS:
        raise InvalidRequest(f"kind: there is none called {kind!r}; there are {', '.join(_KINDS)}", param="kind")
    return _KINDS[kind]()


def require_same_kind(wanted: MemoryBank, there: MemoryBank) -> None:
    """What the wanted one leaves open may be anything. Raises Conflict naming what differs."""
    differing = []
    if wanted.provider_id not in ("", there.provider_id):
        differing.append(_differs("provider_id", there.provider_id, wanted.provider_id))
    if wanted.bank.kind != there.bank.kind:
        differing.append(_differs("kind", there.bank.kind, wanted.bank.kind))
    else:
        for name in sorted(wanted.bank.model_fields_set):
            asked, is_set = getattr(wanted.bank, name), getattr(there.bank, name)
            if asked not in (None, "", is_set):
                differing.append(_differs(name, is_set, asked))
    _refuse(there.identifier, differing)


def require_same_notes(there: BankRecord, name: str, metadata: dict[str, str] | None, expiry: Expiry | None) -> None:
    """As `require_same_kind`, for what is kept beside the bank."""
    differing = []
    if name not in ("", there.name):
        differing.append(_differs("name", there.name, name))
    if metadata is not None and metadata != there.metadata:
        differing.append(_differs("metadata", there.metadata, metadata))
    if expiry is not None and expiry != there.expiry:
        differing.append(_differs("expires_after_days", there.expiry and there.expiry.days, expiry.days))
    _refuse(there.bank.identifier, differing)


def _differs(name: str, there: object, wanted: object) -> str:
    return f"{name} is {there!r}, not {wanted!r}"


def _refuse(bank_id: str, differing: list[str]) -> None:
    if differing:
        raise Conflict(
            f"a memory bank {bank_id!r} is there already, and another one: {'; '.join(differing)}; "
            "ask for that, or choose another id",
            param="bank",
        )
