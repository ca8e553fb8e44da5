"""The request's sampling as llama.cpp's fields: each one checked here, because the engine ignores what it dislikes."""

import math
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import Sampling
from llama_stack.errors import InvalidRequest, UnsupportedParameter

SAME_NAMES = ("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty")

# llama.cpp's own sampling fields (README of its server tool, "/completion") that a caller may send in `extra`.
EXTRA_NUMBERS: dict[str, tuple[float, float]] = {
    "typical_p": (0, 1),
    "repeat_last_n": (-1, 1_000_000),
    "dynatemp_range": (0, 100),
    "dynatemp_exponent": (0, 100),
    "top_n_sigma": (-1, 100),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "dry_multiplier": (0, 100),
    "dry_base": (0, 100),
    "dry_allowed_length": (0, 1_000_000),
    "dry_penalty_last_n": (-1, 1_000_000),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
}
_WHOLE = frozenset({"repeat_last_n", "dry_allowed_length", "dry_penalty_last_n", "mirostat"})
_RANDOM_SEED = 0xFFFFFFFF


def sampling_fields(
    sampling: Sampling, extra: JsonObject, *, vocabulary: int, temperature: float | None
) -> dict[str, Any]:
    """The fields of a generation request. Raises InvalidRequest or UnsupportedParameter, naming the field.

    vocabulary: number of token ids. temperature: the model's own default, None for llama.cpp's.
    """
    fields: dict[str, Any] = {}
    if temperature is not None:
        fields["temperature"] = temperature
    for name in SAME_NAMES:
        value = getattr(sampling, name)
        if value is not None:
            fields[name] = _finite(name, value)
    if sampling.repetition_penalty is not None:
        fields["repeat_penalty"] = _finite("repetition_penalty", sampling.repetition_penalty)
    if sampling.min_tokens:
        raise UnsupportedParameter("the embedded engine cannot enforce min_tokens; leave it out", param="min_tokens")
    if sampling.seed is not None:
        fields["seed"] = sampling.seed % _RANDOM_SEED  # one value below: the last one means "random"
        # A prompt kept from an earlier request was computed in other batches, and rounds differently.
        fields["cache_prompt"] = False
    if sampling.stop:
        if "" in sampling.stop:
            raise InvalidRequest("a stop text may not be empty", param="stop")
        fields["stop"] = sampling.stop
    if sampling.logit_bias:
        fields["logit_bias"] = [_bias(token, bias, vocabulary) for token, bias in sampling.logit_bias.items()]
    fields.update(_extra_fields(extra))
    return fields


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise InvalidRequest(f"{name} must be a finite number, not {value}", param=name)
    return value


def _bias(token: str, bias: float, vocabulary: int) -> list[Any]:
    if not token.isascii() or not token.isdigit() or int(token) >= vocabulary:
        raise InvalidRequest(
            f"logit_bias: {token!r} is no token id of this model; ids go from 0 to {vocabulary - 1}",
            param="logit_bias",
        )
    if not -100 <= bias <= 100:
        raise InvalidRequest(f"logit_bias: {bias} is outside -100 to 100", param="logit_bias")
    return [int(token), False if bias == -100 else bias]


def _extra_fields(extra: JsonObject) -> dict[str, Any]:
    for name, value in extra.items():
        if name not in EXTRA_NUMBERS:
            raise UnsupportedParameter(
                f"the embedded engine knows no {name!r}; beside the common fields it takes {', '.join(EXTRA_NUMBERS)}",
                param=name,
            )
        low, high = EXTRA_NUMBERS[name]
        kinds = int if name in _WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            what = "a whole number" if name in _WHOLE else "a number"
            raise InvalidRequest(f"{name} must be {what} from {low:g} to {high:g}, not {value!r}", param=name)
    return dict(extra)
