"""Pictures in words, by a model that sees."""

import base64

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, Inference, Sampling
from llama_stack.api.messages import ImagePart, TextPart, UserMessage, text_of

MAX_CAPTION_TOKENS = 400
INSTRUCTIONS = (
    "Describe this picture for somebody who searches for it in words: what it shows, and any text in it, word for word."
)
READER = Caller(owner="documents")
"""Pictures are described for the stack; no credentials of a caller go with them."""


class Captions:
    """Describes pictures. Raises what the model's provider raises, such as UnsupportedParameter for a blind one."""

    def __init__(self, inference: Inference, model: str) -> None:
        self._inference = inference
        self._model = model

    async def __call__(self, content: bytes, mime_type: str) -> str:
        picture = ImagePart(url=f"data:{mime_type};base64,{base64.b64encode(content).decode()}")
        request = ChatRequest(
            model=self._model,
            messages=[UserMessage(content=[TextPart(text=INSTRUCTIONS), picture])],
            sampling=Sampling(max_tokens=MAX_CAPTION_TOKENS),
            whole=True,
        )
        answer = await collect(self._inference.stream_chat(request, READER))
        return text_of(answer.choices[0].message.content).strip()
