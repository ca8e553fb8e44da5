"""create_app(): the application over a running Stack."""

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from llama_stack.api.stack import ServedStack
from llama_stack.server.classic import OlderOpenAIPrefix
from llama_stack.server.edge import Edge
from llama_stack.server.errors import add_error_handlers
from llama_stack.server.openapi import openapi_route
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainApp, PlainRouter
from llama_stack.server.routes import (
    agents,
    alpha_memory,
    anthropic,
    chat,
    classic_agents,
    classic_inference,
    classic_rag,
    classic_tools,
    classic_turns,
    classic_vector_dbs,
    classic_vector_io,
    completions,
    containers,
    conversations,
    embeddings,
    files,
    mcp,
    memory,
    memory_words,
    models,
    responses,
    responses_websocket,
    safety,
    stored_completions,
    system,
    vector_store_files,
    vector_stores,
)


def create_app(stack: ServedStack, options: ServerOptions | None = None) -> Starlette:
    """The application. The stack must stay open for as long as the application serves; it is not closed here."""
    options = options or ServerOptions()
    app = PlainApp()
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
        )
    app.add_middleware(OlderOpenAIPrefix)
    app.add_middleware(Edge, allowed_hosts=options.allowed_hosts)
    add_error_handlers(app)
    app.router.routes.append(openapi_route(app))
    app.router.routes.append(responses_websocket.route(stack, options))
    # Before the others of memory: same paths, told apart by what the client accepts.
    app.router.routes.extend(memory_words.routes(stack, options))
    for family in _families(app, stack, options):
        # Flat, not nested as include_router may do it: the list of routes is read for hints and by /v1/inspect/routes.
        app.router.routes.extend(family.routes)
    app.router.routes.extend(alpha_memory.routes(stack, options))
    app.router.routes.extend(mcp.routes(stack, options))
    return app


def _families(app: Starlette, stack: ServedStack, options: ServerOptions) -> tuple[PlainRouter, ...]:
    """The routes of every API; of two with the same path the first that wants a request has it."""
    return (
        chat.routes(stack, options),
        completions.routes(stack, options),
        embeddings.routes(stack, options),
        models.routes(stack, options),
        system.routes(stack, app),
        responses.routes(stack, options),
        responses.stored_routes(stack),
        conversations.routes(stack, options),
        conversations.item_routes(stack, options),
        stored_completions.routes(stack, options),
        files.routes(stack, options),
        containers.routes(stack, options),
        containers.file_routes(stack),
        containers.content_routes(stack, options),
        classic_inference.routes(stack, options),
        # Before the classic ones: same paths, told apart by what the client accepts.
        agents.routes(stack, options),
        classic_agents.routes(stack, options),
        classic_turns.routes(stack),
        classic_turns.run_routes(stack, options),
        classic_tools.routes(stack, options),
        classic_tools.run_routes(stack, options),
        classic_vector_dbs.routes(stack, options),
        classic_vector_io.routes(stack, options),
        classic_rag.routes(stack, options),
        memory.routes(stack, options),
        safety.routes(stack, options),
        safety.moderation_routes(stack, options),
        anthropic.routes(stack, options),
        # Before those of one store, which would read `search` as the end of its id.
        vector_stores.search_routes(stack, options),
        vector_stores.routes(stack, options),
        vector_store_files.routes(stack, options),
        vector_store_files.batch_routes(stack, options),
    )
