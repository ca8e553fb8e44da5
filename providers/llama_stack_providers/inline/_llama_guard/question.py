"""What a guard is asked about: one message, a few before it, and the categories that count."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from llama_stack.api.messages import AssistantMessage, Message, SystemMessage, TextPart, UserMessage
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.llama_prompts.families import LlamaFamily, family_for
from llama_stack.wire.llama_prompts.guard import GUARD_CATEGORIES, guard_role, guard_text
from llama_stack_providers.inline._llama_guard.settings import Config

MOST_WINDOWS = 32

_UNTRAINED = {LlamaFamily.LLAMA_3_2: {"S14"}, LlamaFamily.LLAMA_3_2_VISION: {"S14"}}


@dataclass(frozen=True)
class Question:
    """messages: the last one is judged. window: which part of its text stands there, None for all of it."""

    model: str
    messages: list[Message]
    settings: Config
    window: tuple[int, int] | None = None

    @classmethod
    def about(cls, model: str, messages: list[Message], settings: Config) -> "Question":
        """The last message with those just before it. One of the system's is judged as if a user had said it.

        Raises InvalidRequest when there is none.
        """
        if not messages:
            raise InvalidRequest("a shield needs at least one message to judge", param="messages")
        *before, last = messages
        judged = UserMessage(content=last.content) if isinstance(last, SystemMessage) else last
        context = [message for message in before if not isinstance(message, SystemMessage)]
        earlier = context[-settings.earlier_messages :] if settings.earlier_messages else []
        return cls(model, [*earlier, judged], settings)

    @property
    def role(self) -> str:
        return guard_role(self.messages[-1])

    @property
    def family(self) -> LlamaFamily:
        return self.settings.family or family_for(self.model) or LlamaFamily.LLAMA_3_1

    @property
    def categories(self) -> Mapping[str, str]:
        """Those the guard is asked about, by code."""
        known = self.settings.categories
        if known is None:
            untrained = _UNTRAINED.get(self.family, set())
            known = {code: name for code, name in GUARD_CATEGORIES.items() if code not in untrained}
        excluded = {code.upper() for code in self.settings.excluded_categories}
        return {code: name for code, name in known.items() if code.upper() not in excluded}

    @property
    def shows_images(self) -> bool:
        content = self.messages[-1].content
        return isinstance(content, list) and any(part.type == "image" for part in content)

    def alone(self) -> "Question":
        """Without the earlier messages."""
        return replace(self, messages=self.messages[-1:])

    def windows(self) -> list["Question"]:
        """The question in pieces that a guard can read, in order; itself where it is short enough.

        Raises InvalidRequest for a message longer than all pieces together may be.
        """
        *earlier, judged = self.messages
        text = guard_text(judged)
        size = self.settings.window_chars
        if len(text) <= size:
            return [self]
        step = size - size // 20
        if len(text) > step * MOST_WINDOWS:
            raise InvalidRequest(
                f"the message has {len(text)} characters; this shield judges up to {step * MOST_WINDOWS} "
                "(raise its window_chars)",
                param="messages",
            )
        said = AssistantMessage if isinstance(judged, AssistantMessage) else UserMessage
        images = [part for part in judged.content if part.type != "text"] if isinstance(judged.content, list) else []
        pieces: list[Question] = []
        for start in range(0, len(text), step):
            piece = text[start : start + size]
            content = [TextPart(text=piece), *images] if images and not start else piece
            window = (start, start + len(piece))
            pieces.append(replace(self, messages=[*earlier, said(content=content)], window=window))
            if window[1] == len(text):
                break
        return pieces

    def readable(self, *, sees_images: bool) -> list[Message]:
        """The messages as the guard can be given them.

        Earlier messages are only context, so what it cannot see of them is left out. Raises UnsupportedParameter for
        a part of the judged message that it cannot see, unless settings say to skip it.
        """
        *earlier, judged = self.messages
        return [
            *(_seen(message, sees_images, skips=True) for message in earlier),
            _seen(judged, sees_images, skips=self.settings.images == "skip"),
        ]


def _seen(message: Message, sees_images: bool, *, skips: bool) -> Message:
    if not isinstance(message.content, list):
        return message
    seen = [part for part in message.content if isinstance(part, TextPart) or (sees_images and part.type == "image")]
    unseen = next((part for part in message.content if part not in seen), None)
    if unseen is None:
        return message
    if not skips:
        raise UnsupportedParameter(
            f"this guard cannot judge a part of type {unseen.type!r}; leave it out, use a guard model that reads it, "
            "or set the shield's param images to skip, and only the text is judged",
            param="messages",
        )
    return message.model_copy(update={"content": seen})
