"""The best of what was found, judged by a model that reads question and chunk together."""

import json
import re
from collections.abc import Sequence

from llama_stack.api.answers import collect
from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, Inference, RerankRequest
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.errors import ContextOverflow

MAX_RERANKED = 100
MAX_JUDGED = 20
"""By a chat model, which reads them all at once."""
JUDGED_CHARACTERS = (1_500, 600, 240)
"""Of each passage; less where the model's window does not hold as much of all of them."""

QUESTION = """\
Question: {question}

Passages:
{passages}

Which passages help to answer the question? Answer with a JSON list of their numbers, the most helpful first, such as \
[3, 1]; with [] if none helps."""


async def reranked(
    model: str, question: str, found: Sequence[FoundChunk], inference: Inference, caller: Caller
) -> list[FoundChunk]:
    """The chunks in the order of the model, with its scores: of a cross-encoder, or of a chat model's list.

    What the model was not shown or did not name comes last, in the order it came in.
    """
    if not found:
        return []
    if inference.capabilities(model).rerank:
        shown, rest = list(found[:MAX_RERANKED]), list(found[MAX_RERANKED:])
        request = RerankRequest(model=model, query=question, documents=[one.chunk.indexed_text for one in shown])
        answer = await inference.rerank(request, caller)
        best = [shown[one.index].model_copy(update={"score": one.score}) for one in answer.results]
        floor = min((one.score for one in best), default=0.0)
        return best + [one.model_copy(update={"score": floor}) for one in rest]
    return await _judged(model, question, found, inference, caller)


async def _judged(
    model: str, question: str, found: Sequence[FoundChunk], inference: Inference, caller: Caller
) -> list[FoundChunk]:
    shown = found[:MAX_JUDGED]
    order = _numbers(await _listed(model, question, shown, inference, caller), len(shown))
    rest = [position for position in range(len(found)) if position not in order]
    return [
        found[position].model_copy(update={"score": 1 - rank / (len(found) + 1)})
        for rank, position in enumerate([*order, *rest])
    ]


async def _listed(model: str, question: str, shown: Sequence[FoundChunk], inference: Inference, caller: Caller) -> str:
    """What the model answers. Raises ContextOverflow where its window does not even hold the passages' starts."""
    for characters in JUDGED_CHARACTERS:
        passages = "\n\n".join(
            f"[{number}] {one.chunk.indexed_text[:characters]}" for number, one in enumerate(shown, start=1)
        )
        asked = UserMessage(content=QUESTION.format(question=question, passages=passages))
        try:
            answer = await collect(
                inference.stream_chat(ChatRequest(model=model, messages=[asked], whole=True), caller)
            )
        except ContextOverflow:
            if characters == JUDGED_CHARACTERS[-1]:
                raise
        else:
            return text_of(answer.choices[0].message.content)
    return ""


def _numbers(said: str, count: int) -> list[int]:
    """Positions from the first JSON list in the answer; none where it holds no such list."""
    match = re.search(r"\[[\d\s,]*\]", said)
    numbers = json.loads(match[0]) if match and re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", match[0]) else []
    return list(dict.fromkeys(number - 1 for number in numbers if 1 <= number <= count))
