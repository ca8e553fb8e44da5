"""How sure a guard is: the probability of `unsafe` at the token where it decides (model card of Llama Guard 3)."""

import math
from collections.abc import Sequence

from llama_stack.api.inference import TokenLogprob
from llama_stack.wire.llama_prompts.guard import GuardVerdict

ALTERNATIVES = 5


def unsafe_probability(logprobs: Sequence[TokenLogprob] | None) -> float | None:
    """Of the two words, at the first token that is not white space; None where neither of them begins there."""
    deciding = next((position for position in logprobs or () if position.token.strip()), None)
    if deciding is None:
        return None
    candidates = {candidate.token: candidate.logprob for candidate in (*deciding.top, deciding)}
    mass = {"safe": 0.0, "unsafe": 0.0}
    for token, logprob in candidates.items():
        begun = token.strip().lower()
        for word in mass:
            # A token may be the beginning of the word, or the word and the line after it.
            if begun and (word.startswith(begun) or begun.startswith(word)):
                mass[word] += math.exp(logprob)
    total = sum(mass.values())
    return mass["unsafe"] / total if total else None


def decided(verdict: GuardVerdict, score: float | None, threshold: float | None) -> GuardVerdict:
    """The verdict at this threshold; the guard's own word where there is no threshold or no score."""
    if threshold is None or score is None or verdict.state == "unparsable":
        return verdict
    if score < threshold:
        return GuardVerdict("safe", (), verdict.text)
    return verdict if verdict.state == "unsafe" else GuardVerdict("unsafe", (), verdict.text)
