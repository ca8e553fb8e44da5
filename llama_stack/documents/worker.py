"""A process that reads documents, one after the other, under limits of its own: `python -m` runs it for the reader.

It gets a frame with the file's name and either a path or the number of bytes that follow, and answers with a frame
that holds the document or the failure. It ends when its input ends.
"""

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from llama_stack.documents.blocks import to_json
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.frames import encoded, read_frame
from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.parsing import parse


def main() -> None:
    answers = _own_output()
    questions = sys.stdin.buffer
    limits = ReadingLimits.model_validate_json(sys.argv[1])
    _limit_memory(limits.max_memory_bytes)
    answers.write(encoded({"ready": True}))
    answers.flush()
    while (question := read_frame(questions)) is not None:
        _limit_cpu(limits.time_limit_s)
        answer = _answer(question, questions, limits)
        answers.write(answer)
        answers.flush()


def _own_output() -> BinaryIO:
    """The pipe for answers. Whatever a library prints goes to stderr instead."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(own, "wb")


def _answer(question: dict[str, Any], questions: BinaryIO, limits: ReadingLimits) -> bytes:
    try:
        size = question["size"]
        content = questions.read(size) if size is not None else Path(question["path"]).read_bytes()
        document = parse(content, question["filename"], question["mime_type"], limits)
        return encoded({"document": to_json(document)})
    except DocumentUnreadable as failure:
        return encoded({"failure": {"message": failure.message, "code": failure.code}})
    except MemoryError:
        return encoded({"failure": {"message": "reading it needs more memory than allowed", "code": "too_complex"}})
    except FileNotFoundError:
        return encoded({"gone": True})
    # Parsers are foreign code that meets malicious input: whatever they raise is the file's fault, and told as that.
    except Exception as error:
        message = f"reading it failed ({type(error).__name__}); it may be damaged: save it again and send that file"
        return encoded({"failure": {"message": message, "code": "damaged"}})


def _limit_memory(max_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    except (ValueError, OSError):  # macOS knows the limit and refuses to set it
        return


def _limit_cpu(time_limit_s: float) -> None:
    """Processor time until the next answer; the reader's own clock is first unless the reader is gone."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + time_limit_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
