"""Settings in layers: the provider's config, over it a shield's params, over those the params of one call."""

from collections.abc import Collection
from typing import TypeVar

from pydantic import ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.resources import Shield
from llama_stack.errors import InvalidRequest
from llama_stack.provider import ProviderConfig

ConfigT = TypeVar("ConfigT", bound=ProviderConfig)


def layered(config: ConfigT, shield: Shield, params: JsonObject | None, *, per_call: Collection[str]) -> ConfigT:
    """The settings of one run. per_call: names a single call may set; its other params are not looked at.

    Raises InvalidRequest naming the param that is unknown to the provider or has a wrong value.
    """
    called = {name: value for name, value in (params or {}).items() if name in per_call and value is not None}
    if not shield.params and not called:
        return config
    try:
        return type(config).model_validate({**config.model_dump(), **shield.params, **called})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(step) for step in fault["loc"])
        field = f"params.{name}" if name else "params"
        if fault["type"] == "extra_forbidden":
            known = ", ".join(sorted(type(config).model_fields))
            raise InvalidRequest(
                f"the shield {shield.identifier!r} has the param {name!r}, which its provider does not know; "
                f"it knows: {known}",
                param=field,
            ) from None
        wrong = f"the param {name!r} is wrong" if name else "its params are wrong"
        problem = fault["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"the shield {shield.identifier!r}: {wrong}: {problem}", param=field) from None
