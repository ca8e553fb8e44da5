"""Text in pictures, where a library that reads it is installed: `rapidocr` or `pytesseract`. Both are optional."""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

RECOGNITION_REMEDY = "to read text in pictures, run: pip install 'llama-stack[ocr]'"
MAX_PIXELS = 64_000_000

Recognise = Callable[["Image"], str]


def recognised_text(picture: "Callable[[], Image]") -> str | None:
    """What can be read in the picture; None where nothing is installed that reads. picture: called only if needed."""
    recognise = _recogniser()
    return None if recognise is None else recognise(picture().convert("RGB"))


@lru_cache(maxsize=1)
def _recogniser() -> Recognise | None:
    if find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None:
        return _with_rapidocr()
    if find_spec("pytesseract") is not None and which("tesseract") is not None:
        return _with_tesseract
    return None


def _with_rapidocr() -> Recognise:
    import numpy
    from rapidocr import RapidOCR

    engine = RapidOCR()

    def recognise(image: "Image") -> str:
        found = engine(numpy.asarray(image))
        return "\n".join(getattr(found, "txts", None) or ())

    return recognise


def _with_tesseract(image: "Image") -> str:
    import pytesseract

    return str(pytesseract.image_to_string(image))
