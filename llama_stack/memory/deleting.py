"""What was told to go, goes: also where its process died, or its index could not be reached, in the middle."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from llama_stack.api.common import Caller
from llama_stack.api.resources import MemoryBank
from llama_stack.errors import NotFound, StackError
from llama_stack.memory.banks import Banks
from llama_stack.memory.ingestion import Ingestion
from llama_stack.storage.deletions import Deletion, DeletionStore
from llama_stack.storage.documents import DocumentStore

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
"""For what other processes left behind; what was left when this one began is finished at once."""
_AT_ONCE = 100


class Deleting:
    """Notes deletions before they begin and finishes those that were broken off."""

    def __init__(self, banks: Banks, store: DeletionStore, documents: DocumentStore, ingestion: Ingestion) -> None:
        self._banks = banks
        self._store = store
        self._documents = documents
        self._ingestion = ingestion

    @asynccontextmanager
    async def of_documents(self, bank: MemoryBank, document_ids: Sequence[str], caller: Caller) -> AsyncIterator[None]:
        """The documents go meanwhile. What fails in the middle is done again later: their rows are gone already."""
        deletion = await self._store.begin(bank, document_ids, caller)
        yield
        await self._store.end(deletion)

    async def drop(self, bank_id: str, caller: Caller) -> None:
        """The bank goes. A failure leaves it to its caller, who sees it still; only a death is made good."""
        share = await self._banks.share(bank_id, caller)
        deletion = await self._store.begin(share.bank, None, caller)
        try:
            await self._banks.drop(share)
        except Exception:
            await self._store.end(deletion)
            raise
        await self._store.end(deletion)

    async def finish_dropping(self, bank_id: str, caller: Caller) -> None:
        """A bank that is made under this name finds nothing of an earlier one."""
        for deletion in await self._store.of_bank(bank_id, caller):
            await self._finish(deletion)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look(), name="deletions to finish")
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look(self) -> None:
        while True:
            try:
                for deletion in await self._store.claim(_AT_ONCE):
                    await self._finish_or_leave(deletion)
            except StackError as error:
                logger.warning("cannot look for deletions to finish: %s", error.message)
            except Exception:  # one fault must not end the finishing of all
                logger.exception("looking for deletions to finish failed; it is tried again")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _finish_or_leave(self, deletion: Deletion) -> None:
        try:
            await self._finish(deletion)
        except StackError as error:
            logger.warning("a deletion in %r is not finished yet: %s", deletion.bank.identifier, error.message)

    async def _finish(self, deletion: Deletion) -> None:
        caller = Caller(owner=deletion.owner)
        if deletion.document_ids is None:
            await self._banks.finish_dropping(deletion.bank, deletion.begun_at, caller)
        else:
            await self._finish_documents(deletion, deletion.document_ids, caller)
        await self._store.end(deletion)

    async def _finish_documents(self, deletion: Deletion, document_ids: list[str], caller: Caller) -> None:
        bank_id = deletion.bank.identifier
        try:
            share = await self._banks.share(bank_id, caller)
        except NotFound as error:
            if error.code == "provider_not_found":
                raise
            return  # the bank is gone, and all its documents with it
        async with self._ingestion.alone(share.place, *document_ids):
            known = await self._documents.some(bank_id, document_ids, caller)
            # What was added again since stays; its working replaces what lies in the bank.
            anew = {one for one, stored in known.items() if stored.status.created_at > deletion.begun_at}
            await self._documents.forget(bank_id, [one for one in known if one not in anew], caller)
            if gone := [one for one in document_ids if one not in anew]:
                await share.index.delete_documents(share.place, gone)
