"""Downloads with a progress bar, for the commands that need them."""

import asyncio

from llama_stack.cli.printing import print_note, progress_bar
from llama_stack.compose import stack_home
from llama_stack.distribution import EMBEDDED_ENGINE, Distribution
from llama_stack.hub import PREFIX, cached_file, download


async def fetch(reference: str) -> str:
    """Bring one file of the hub here, and give its path; at once where it is here already."""
    here = cached_file(reference, stack_home())
    if here is None:
        try:
            with progress_bar(reference.rpartition("/")[2]) as report:
                here = await download(reference, stack_home(), progress=report)
        except asyncio.CancelledError:
            print_note("Run the same command again to go on from here.")
            raise
    return str(here)


async def fetch_missing_models(distribution: Distribution) -> None:
    """Download every `hf:` model of the embedded engine that is not here yet."""
    for entry in distribution.providers.inference:
        if entry.provider_type != EMBEDDED_ENGINE:
            continue
        for model in entry.models:
            reference = model.provider_resource_id or model.identifier
            if reference.startswith(PREFIX):
                await fetch(reference)
