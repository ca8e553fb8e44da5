"""Paths of vector stores, whose ids may hold slashes, as may those of documents in them.

Some clients escape them (`%2F`), others send them as they are. Escaped, an id is one part of the path, whatever is in
it. Unescaped, a store's id ends before the first part that is `files` or `file_batches`, and a document's id goes on to
the end, or to `/content`.
"""

import re
from typing import Any
from urllib.parse import unquote

from starlette.routing import Match
from starlette.types import Scope

from llama_stack.server.plain import Endpoint, PlainRoute

_UNESCAPED = {
    "vector_store_id": r"[^/]+(?:/(?!(?:files|file_batches)(?:/|$))[^/]+)*",
    "file_id": r".*[^/]",
}


class SlashedIdsRoute(PlainRoute):
    """Finds the ids `vector_store_id` and `file_id` of its path also where they hold slashes."""

    def __init__(self, path: str, endpoint: Endpoint, *, method: str, tag: str, **settings: Any) -> None:
        super().__init__(path, endpoint, method=method, tag=tag, **settings)
        pattern = self.path_regex.pattern
        for name, id_pattern in _UNESCAPED.items():
            pattern = pattern.replace(f"(?P<{name}>[^/]+)", f"(?P<{name}>{id_pattern})")
        self._unescaped_regex = re.compile(pattern)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        sent = bytes(scope.get("raw_path") or b"").decode("ascii", "replace")
        is_escaped = "%2f" in sent.lower()
        if is_escaped:
            found = self.path_regex.match(_below_root(sent, scope))
        else:
            found = self._unescaped_regex.match(_below_root(scope["path"], scope))
        if found is None:
            return Match.NONE, {}
        ids = {name: unquote(one) if is_escaped else one for name, one in found.groupdict().items()}
        is_wanted = scope["method"] in self.methods
        return Match.FULL if is_wanted else Match.PARTIAL, {"endpoint": self.endpoint, "path_params": ids}


def _below_root(path: str, scope: Scope) -> str:
    """Without the path at which a proxy, or a larger application, has this one."""
    root = str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
