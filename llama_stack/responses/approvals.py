"""Approvals that were carried out: a call that a person agreed to once is made once.

Clients repeat requests that were not answered in time, and a repeated approval would run its tool again. What is
stored is looked up in the database, over restarts and in every process; what is not stored is known to this process.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing

from llama_stack.api.agents import AgentEvent, ApprovalDecision, ApprovalStep, StepCompleted
from llama_stack.storage.approvals import approval_used

MOST_KNOWN = 10_000


def approvals_of(decisions: Iterable[ApprovalDecision], requests: Mapping[str, str]) -> dict[str, bool]:
    """What was said of each approval request, by its id. requests: the request's id, by its call's."""
    return {requests[made.tool_call_id]: made.approve for made in decisions if made.tool_call_id in requests}


class UsedApprovals:
    """Approval requests of every owner, each with the response that carried it out; the oldest are forgotten."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[tuple[str, str], str] = OrderedDict()

    def claim(self, owner: str, approvals: Mapping[str, bool], response_id: str) -> None:
        """Take the approved ones for a response. Raises Conflict for any that another one has taken."""
        for approval_id in approvals:
            taken_by = self._by_id.get((owner, approval_id), response_id)
            if taken_by != response_id:
                raise approval_used(approval_id, taken_by)
        for approval_id, is_approved in approvals.items():
            if is_approved:
                self._by_id[owner, approval_id] = response_id
        while len(self._by_id) > MOST_KNOWN:
            self._by_id.popitem(last=False)

    def release(self, owner: str, approvals: Mapping[str, bool], response_id: str) -> None:
        """Give back what was claimed and not carried out."""
        for approval_id in approvals:
            if self._by_id.get((owner, approval_id)) == response_id:
                del self._by_id[owner, approval_id]


async def once(
    events: AsyncGenerator[AgentEvent, None],
    approvals: Mapping[str, bool],
    used: UsedApprovals,
    owner: str,
    response_id: str,
) -> AsyncGenerator[AgentEvent, None]:
    """The same events; the approvals are this response's from now on, unless it fails before any call is made."""
    used.claim(owner, approvals, response_id)
    is_decided = False
    try:
        async with aclosing(events):
            async for event in events:
                is_decided = is_decided or (isinstance(event, StepCompleted) and isinstance(event.step, ApprovalStep))
                yield event
    finally:
        if not is_decided:
            used.release(owner, approvals, response_id)
