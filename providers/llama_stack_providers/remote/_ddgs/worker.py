"""A process that searches: one query a line comes in, one answer a line goes out, both as JSON.

Run by its path, with the settings of the package's search as its argument. The package blocks, cannot be interrupted
and takes an answer of any size; a process can be ended, and its memory bounded.
"""

import json
import os
import sys
from typing import Any

MEMORY_BYTES = 2 << 30
"""Address space; the package's client, in Rust, reserves much of it and uses little."""


def main(settings: dict[str, Any]) -> None:
    # Whatever else prints goes to stderr, so that every line is an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    bound_memory()
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), settings)) + "\n")
        answers.flush()


def bound_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has none
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def answer(query: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`rows` as the package gives them, or `failure` in one word and its `message`."""
    from ddgs import DDGS
    from ddgs.exceptions import DDGSException, RatelimitException, TimeoutException

    try:
        rows = DDGS(timeout=settings["timeout_s"]).text(query, **settings["search"])
    except RatelimitException:
        return {"failure": "rate_limited", "message": ""}
    except TimeoutException:
        return {"failure": "timeout", "message": ""}
    except (DDGSException, MemoryError) as error:
        return {"failure": "failed", "message": str(error) or type(error).__name__}
    return {"rows": rows}


if __name__ == "__main__":
    main(json.loads(sys.argv[-1]))
