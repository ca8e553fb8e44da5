"""POST /v1/embeddings and POST /v1/rerank."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.stack import Stack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.schema import EmbeddingList, Ranking
from llama_stack.wire.openai_embeddings import EmbeddingBody, decode_embedding_call, encode_embeddings
from llama_stack.wire.rerank import RerankBody, decode_rerank_call, encode_rerank


def routes(stack: Stack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("embeddings")

    @router.post("/v1/embeddings", summary="Embed texts", **describe(body=EmbeddingBody, answer=EmbeddingList))
    async def create_embeddings(request: Request) -> Response:
        embedding, encoding_format = decode_embedding_call(await read_json(request, options))
        async with stops_with_its_client(request):
            answer = await stack.inference.embed(embedding, caller_of(request))
        return json_response(encode_embeddings(answer, embedding.model, encoding_format))

    @router.post(
        "/v1/rerank",
        summary="Order documents by how well they answer a query",
        **describe(body=RerankBody, answer=Ranking),
    )
    async def create_ranking(request: Request) -> Response:
        rerank, return_documents = decode_rerank_call(await read_json(request, options))
        async with stops_with_its_client(request):
            answer = await stack.inference.rerank(rerank, caller_of(request))
        return json_response(encode_rerank(answer, rerank, return_documents=return_documents))

    return router
