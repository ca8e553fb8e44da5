"""What is asked of a search beside its query. Whoever offers the tool says it, in the group's `args`; no model does."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from llama_stack.api.common import JsonObject
from llama_stack.errors import InvalidRequest
from llama_stack_providers.remote._web_search.results import Found, SearchSettings

MAX_DOMAINS = 100
ARGUMENTS: JsonObject = {
    "allowed_domains": {
        "type": "array",
        "items": {"type": "string", "pattern": r"^[^\s/:@?#]+$", "maxLength": 253},
        "maxItems": MAX_DOMAINS,
        "description": "Find pages of these domains and of those below them only; empty for all.",
    },
    "context_size": {"enum": ["low", "medium", "high"], "description": "How much to give of what was found."},
}
_SHARES = {"low": 0.5, "medium": 1.0, "high": 2.0}
_MOST_RESULTS, _LEAST_BYTES, _MOST_BYTES = 20, 512, 64 * 1024


@dataclass(frozen=True)
class Scope:
    """allowed_domains: where pages may be, all where there are none. context_size: `low` gives half of what is
    configured, in pages and in bytes, `high` twice as much.
    """

    allowed_domains: tuple[str, ...] = ()
    context_size: Literal["low", "medium", "high"] = "medium"

    @classmethod
    def of(cls, allowed_domains: Any = (), context_size: Any = "medium") -> Self:
        """From arguments that fit `ARGUMENTS`."""
        return cls(tuple(_plain(domain) for domain in allowed_domains), context_size)

    def sized(self, settings: SearchSettings) -> SearchSettings:
        share = _SHARES[self.context_size]
        return settings.model_copy(
            update={
                "max_results": max(1, min(_MOST_RESULTS, round(settings.max_results * share))),
                "max_result_bytes": max(_LEAST_BYTES, min(_MOST_BYTES, round(settings.max_result_bytes * share))),
            }
        )

    def operators(self, limit_chars: int) -> str:
        """The domains as engines take them in a query, with a blank before: ` (site:a.example OR site:b.example)`.

        Raises InvalidRequest where they leave less than half of the engine's limit to the query.
        """
        if not self.allowed_domains:
            return ""
        sites = " OR ".join(f"site:{domain}" for domain in self.allowed_domains)
        written = f" ({sites})" if len(self.allowed_domains) > 1 else f" {sites}"
        if len(written) > limit_chars // 2:
            raise InvalidRequest(
                f"allowed_domains: this engine takes {limit_chars} characters, and these {len(self.allowed_domains)} "
                "domains leave too few for the query; name fewer",
                param="allowed_domains",
            )
        return written

    def admits(self, page: Found | None) -> bool:
        """Whether a page is where pages may be: what an engine was asked for is not always what it gives."""
        if page is None or not self.allowed_domains:
            return page is not None
        try:
            host = _plain(urlsplit(page.url).hostname or "")
        except ValueError:
            return False
        return any(host == domain or host.endswith(f".{domain}") for domain in self.allowed_domains)

    def both(self, domains: list[str]) -> Self | None:
        """The scope kept to these domains too; None where no page can be in both."""
        own = [_plain(domain) for domain in domains]
        if not own or not self.allowed_domains:
            return replace(self, allowed_domains=tuple(own) or self.allowed_domains)
        pairs = [(mine, theirs) for mine in self.allowed_domains for theirs in own]
        kept = [mine for mine, theirs in pairs if mine == theirs or mine.endswith(f".{theirs}")]
        kept += [theirs for mine, theirs in pairs if theirs.endswith(f".{mine}")]
        return replace(self, allowed_domains=tuple(dict.fromkeys(kept))) if kept else None


def _plain(domain: str) -> str:
    return domain.lower().strip(".")
