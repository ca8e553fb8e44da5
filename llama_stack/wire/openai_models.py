"""The list of models, both directions: OpenAI's fields and the classic Llama Stack fields side by side."""

from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ProviderModel
from llama_stack.api.resources import Model
from llama_stack.errors import ProviderFailed


def encode_model(model: Model) -> JsonObject:
    return {
        "id": model.identifier,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider_id,
        "type": "model",
        "identifier": model.identifier,
        "provider_id": model.provider_id,
        "provider_resource_id": model.provider_resource_id,
        "model_type": model.model_type.value,
        "metadata": _metadata(model),
    }


def _metadata(model: Model) -> JsonObject:
    """Classic clients look for the width of an embedding model here."""
    known = {"context_length": model.context_length, "embedding_dimension": model.embedding_dimension}
    return {**model.metadata, **{name: value for name, value in known.items() if value is not None}}


def encode_models(models: list[Model]) -> JsonObject:
    return {"object": "list", "data": [encode_model(model) for model in models]}


def decode_model(body: JsonObject) -> Model:
    """A model as another Llama Stack server shows it."""
    metadata = dict(body.get("metadata") or {})
    return Model(
        identifier=body["identifier"],
        provider_id=body["provider_id"],
        provider_resource_id=body["provider_resource_id"],
        model_type=body["model_type"],
        context_length=metadata.pop("context_length", None),
        embedding_dimension=metadata.pop("embedding_dimension", None),
        created=body.get("created") or 0,
        metadata=metadata,
    )


def decode_provider_models(body: Any) -> list[ProviderModel]:
    """A partner's models: OpenAI's list object, or the bare list some send. Raises ProviderFailed."""
    items = body.get("data") if isinstance(body, dict) else body
    if not isinstance(items, list):
        raise ProviderFailed("the upstream's list of models is not in OpenAI's shape")
    models: list[ProviderModel] = []
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            length = item.get("context_length") or item.get("max_model_len") or item.get("context_window")
            models.append(ProviderModel(id=item["id"], context_length=length if isinstance(length, int) else None))
    return models
