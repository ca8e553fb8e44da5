"""open_stack(): raise the floors of a distribution, and take them down in reverse.

A wrong setting stops here with a ConfigError. A provider that cannot be reached does not: it is degraded, tried again
in the background, and its calls are answered with the reason until it opens.
"""

from llama_stack.compose.database_door import DATABASE_FILE
from llama_stack.compose.local_stack import LocalStack
from llama_stack.compose.opening import open_stack, stack_home
from llama_stack.compose.resolving import ResolvedProvider, mask_secrets, missing_requirements, resolve_providers
from llama_stack.compose.slots import ProviderSlot

__all__ = [
    "DATABASE_FILE",
    "LocalStack",
    "ProviderSlot",
    "ResolvedProvider",
    "mask_secrets",
    "missing_requirements",
    "open_stack",
    "resolve_providers",
    "stack_home",
]
