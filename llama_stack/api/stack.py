"""The stack as a whole: what an application holds, in this process or at the other end of a connection."""

from typing import Protocol

from llama_stack.api.common import Caller, Health, JsonObject, Word
from llama_stack.api.inference import Inference
from llama_stack.api.resources import Model


class ProviderState(Word):
    """One provider of a running stack. `config` has its secrets masked."""

    api: str
    provider_id: str
    provider_type: str
    config: JsonObject
    health: Health


class Stack(Protocol):
    """A running stack, local or remote: the two cannot be told apart by their behaviour."""

    @property
    def inference(self) -> Inference:
        """Inference over all providers; `request.model` is the name a caller uses."""
        ...

    async def list_models(self, caller: Caller) -> list[Model]: ...

    async def model(self, identifier: str, caller: Caller) -> Model:
        """Raises NotFound, naming the models there are."""
        ...

    async def providers(self, caller: Caller) -> list[ProviderState]: ...
