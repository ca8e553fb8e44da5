"""Settings of a guard: of the provider, of one shield, and the few that a single call may set."""

from typing import Literal

from pydantic import Field

from llama_stack.provider import ProviderConfig
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack_providers.inline._shields.actions import Action

PER_CALL = frozenset({"excluded_categories", "actions", "unparsed", "images"})


class Config(ProviderConfig):
    """Each of these may also stand in a shield's `params`, for that shield alone."""

    prompt: Literal["auto", "completion", "chat", "conversation"] = Field(
        "auto", description="how the guard model is asked; auto: exact prompt where possible, else the conversation"
    )
    family: LlamaFamily | None = Field(None, description="whose tokens the exact prompt uses; default: by model name")
    categories: dict[str, str] | None = Field(
        None, description="codes and names the guard is asked about; default: the hazard categories of Llama Guard 3"
    )
    excluded_categories: list[str] = Field([], description="codes the guard is not asked about and that never count")
    actions: dict[str, Action] = Field(
        {}, description="what a category leads to, by code: allow, log, warn or block; default: block"
    )
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="least probability of `unsafe` that counts, read from the guard's first token; default: its word",
    )
    unparsed: Literal["block", "allow"] = Field(
        "block", description="what happens when the guard's answer is no verdict; block fails closed"
    )
    images: Literal["refuse", "skip"] = Field(
        "refuse", description="a judged message with an image the guard cannot see: an error, or judged by its text"
    )
    earlier_messages: int = Field(4, ge=0, description="how many messages before the judged one the guard is shown")
    window_chars: int = Field(
        12_000, ge=100, description="a longer message is judged in pieces of this length that overlap by a twentieth"
    )
    user_message: str = Field(
        "The safety check does not allow this.", description="what a person is told; names of categories are added"
    )
    timeout_s: float = Field(60.0, gt=0, description="longest wait for a verdict, all pieces together")
