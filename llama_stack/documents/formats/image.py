"""Images: the text that can be read in them."""

import io

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable, damaged, missing_library
from llama_stack.documents.formats.recognition import MAX_PIXELS, RECOGNITION_REMEDY, recognised_text


def read_image(content: bytes, builder: DocumentBuilder) -> None:
    """Raises DocumentUnreadable: `missing_library`, `damaged`, `too_complex`, or `no_text` where there is none."""
    try:
        from PIL import Image
    except ImportError:
        raise missing_library("a library that recognises text", "images", RECOGNITION_REMEDY) from None
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise DocumentUnreadable(
                f"it has more than {MAX_PIXELS} pixels; scale it down and send it again", code="too_complex"
            )
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise damaged("image", "its picture cannot be decoded") from error
    text = recognised_text(lambda: image)
    if text is None:
        raise DocumentUnreadable(
            f"nothing is installed here that reads text in images; {RECOGNITION_REMEDY}", code="missing_library"
        )
    if not text.strip():
        raise DocumentUnreadable("the image holds no text that could be recognised; send its text", code="no_text")
    builder.add(BlockKind.CAPTION, text)
