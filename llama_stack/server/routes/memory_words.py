"""The memory in the framework's own words: POST /v1/memory/OPERATION, for clients that ask for them in their Accept
header. The other memory routes describe the same banks in shapes that know less.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotFound
from llama_stack.server.answers import stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.options import ServerOptions
from llama_stack.wire.memory_words import INSERT_DOCUMENTS, MEMORY_OPERATIONS, QUERY
from llama_stack.wire.words import MEDIA_TYPE, decode_word

WORTH_NOTHING_ALONE = (INSERT_DOCUMENTS.name, QUERY.name)
"""What is stopped when its client hangs up; anything else is short, and done to its end."""


class OwnWordsRoute(Route):
    """Answers only who asks for the words, and stands in no document: it is what two stacks of one version speak."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and MEDIA_TYPE.encode() in dict(scope["headers"]).get(b"accept", b""):
            return super().matches(scope)
        return Match.NONE, {}


def routes(stack: ServedStack, options: ServerOptions) -> list[Route]:
    async def run_operation(request: Request) -> Response:
        operation = request.path_params["operation"]
        wanted = MEMORY_OPERATIONS.get(operation)
        if wanted is None:
            raise NotFound(f"memory has no operation {operation!r}; there are: {', '.join(MEMORY_OPERATIONS)}")
        body = decode_word(wanted.body, await read_json(request, options))
        method = getattr(await stack.memory(), wanted.name)
        call = method(caller=caller_of(request), **dict(body))
        if operation in WORTH_NOTHING_ALONE:
            async with stops_with_its_client(request):
                answer = await call
        else:
            answer = await call
        return Response(wanted.answer.dump_json(answer), media_type=MEDIA_TYPE)

    return [OwnWordsRoute("/v1/memory/{operation}", run_operation, methods=["POST"])]
