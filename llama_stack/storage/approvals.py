"""Approvals among stored responses: which of them were carried out, and by which response."""

import json
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, func, select

from llama_stack.api.common import JsonObject
from llama_stack.errors import Conflict
from llama_stack.storage.tables import responses, steps

UNFINISHED = ("queued", "in_progress")
"""States of a response that is still made."""


def approval_used(approval_id: str, response_id: str) -> Conflict:
    return Conflict(
        f"the approval request {approval_id!r} was answered by the response {response_id!r}, and what was approved is "
        "run once; continue that response, or retrieve it",
        param="input",
        code="approval_already_used",
    )


def refuse_used(connection: Connection, response_id: str, root_id: str, owner: str, approvals: Collection[str]) -> None:
    """Refuse what another response of the chain has carried out; within the transaction that keeps this one.

    approvals: ids of the requests that it decides on. Raises Conflict.
    """
    if connection.dialect.name == "postgresql":
        # Two that decide on one request wait for each other here; SQLite has one writer anyway.
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(root_id))))
    of_chain = (
        (responses.c.owner == owner) & (responses.c.root_id == root_id) & (responses.c.response_id != response_id)
    )
    known = select(responses.c.response_id, responses.c.turn_id, responses.c.status, responses.c.request)
    for row in connection.execute(known.where(of_chain)).all():
        used = _approved_in(json.loads(row.request)["input"]) & set(approvals)
        if used and (row.status in UNFINISHED or _has_decided(connection, row.turn_id)):
            raise approval_used(min(used), row.response_id)


def _approved_in(items: Sequence[JsonObject]) -> set[str]:
    said = [item for item in items if item.get("type") == "mcp_approval_response"]
    return {item["approval_request_id"] for item in said if item.get("approve")}


def _has_decided(connection: Connection, turn_id: str) -> bool:
    """Whether decisions were stored with the turn, after which the calls are made."""
    bodies = connection.execute(select(steps.c.body).where(steps.c.turn_id == turn_id)).scalars()
    return any(json.loads(body)["type"] == "approval" for body in bodies)
