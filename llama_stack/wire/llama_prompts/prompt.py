"""A rendered prompt: special tokens, text and images as separate segments.

Keeping them apart is what makes it impossible for the text of a message to forge a special token. A user may write
the characters `<|eot_id|>`; they are then part of a `TextSegment` and never the token that ends a turn. How that
survives the way to an engine depends on what the engine takes:

- an engine that tokenises segment by segment reads `segments`: exact;
- llama.cpp takes a list that mixes token ids and texts and tokenises each text on its own: `as_pieces` splits the
  texts inside every forged token, so the model reads exactly the characters the user wrote: exact;
- where only one text can be sent, `as_text` puts a space into every forged token, `<| eot_id|>`: safe, and the only
  way in which a prompt's text may differ from what was written.
"""

import re
from dataclasses import dataclass

from llama_stack.api.messages import ImagePart
from llama_stack.wire.llama_prompts.families import SpecialTokens


@dataclass(frozen=True)
class SpecialSegment:
    """One special token, by the spelling of the family's vocabulary."""

    token: str


@dataclass(frozen=True)
class TextSegment:
    """Text to be tokenised as plain text: nothing in it is a special token."""

    text: str


@dataclass(frozen=True)
class ImageSegment:
    """Where an image goes; what stands there depends on the engine and on the image's size."""

    image: ImagePart


Segment = SpecialSegment | TextSegment | ImageSegment

# Every special token of the Llama vocabularies has this form, reserved ones included.
_LOOKS_SPECIAL = re.compile(r"<\|(?=[A-Za-z0-9_]+\|>)")


@dataclass(frozen=True)
class LlamaPrompt:
    """Segments in order, without `<|begin_of_text|>`, which most engines add by themselves.

    Neighbouring texts are joined: tokenising segment by segment gives the token ids of the whole prompt.
    """

    segments: tuple[Segment, ...]
    tokens: SpecialTokens

    @property
    def images(self) -> list[ImagePart]:
        """The images in reading order."""
        return [segment.image for segment in self.segments if isinstance(segment, ImageSegment)]

    @property
    def forges_tokens(self) -> bool:
        """Whether some text spells a special token; if not, `as_text` is exact too."""
        return any(
            isinstance(segment, TextSegment) and _LOOKS_SPECIAL.search(segment.text) for segment in self.segments
        )

    def as_text(self, *, begin_of_text: bool = False, image_marker: str | None = None) -> str:
        """One text for an engine that parses special tokens in it; spelled-out tokens of a user are broken by a space.

        begin_of_text: put that token in front, for an engine that does not add it.
        image_marker: what stands for an image; the family's image token unless given.
        """
        parts = [self.tokens.begin_of_text] if begin_of_text else []
        for segment in self.segments:
            match segment:
                case SpecialSegment(token):
                    parts.append(token)
                case TextSegment(text):
                    parts.append(_LOOKS_SPECIAL.sub("<| ", text))
                case ImageSegment():
                    parts.append(image_marker or self.tokens.image)
        return "".join(parts)

    def as_pieces(self, begin_of_text_id: int, *, image_marker: str | None = None) -> list[int | str]:
        """The mixed list of llama.cpp's `/completions`: the token id of `<|begin_of_text|>`, then texts.

        llama.cpp tokenises each text of such a list on its own and parses special tokens in it, so a text that is cut
        inside a spelled-out token holds none. The leading id is needed: a list of texts alone would mean several
        prompts, and after an id llama.cpp adds no `<|begin_of_text|>` of its own.
        """
        pieces: list[int | str] = [begin_of_text_id]
        under_way: list[str] = []
        for segment in self.segments:
            match segment:
                case SpecialSegment(token):
                    under_way.append(token)
                case ImageSegment():
                    under_way.append(image_marker or self.tokens.image)
                case TextSegment(text):
                    head, *tails = _LOOKS_SPECIAL.split(text)
                    under_way.append(head)
                    for tail in tails:
                        pieces.append("".join((*under_way, "<|")))
                        under_way = [tail]
        if under_way:
            pieces.append("".join(under_way))
        return pieces


class PromptBuilder:
    """Collects segments and joins neighbouring texts."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def special(self, token: str) -> "PromptBuilder":
        self._segments.append(SpecialSegment(token))
        return self

    def text(self, text: str) -> "PromptBuilder":
        if text and self._segments and isinstance(last := self._segments[-1], TextSegment):
            self._segments[-1] = TextSegment(last.text + text)
        elif text:
            self._segments.append(TextSegment(text))
        return self

    def image(self, image: ImagePart) -> "PromptBuilder":
        self._segments.append(ImageSegment(image))
        return self

    def segments(self) -> tuple[Segment, ...]:
        return tuple(self._segments)
