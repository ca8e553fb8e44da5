"""Which ids a bank may have."""

import pytest

from llama_stack.errors import InvalidRequest
from llama_stack.memory.checks import check_bank_id


@pytest.mark.parametrize("identifier", ["notes", "team/notes", "vs_1-2.3:4@5", "meine Notizen", "日記", "x" * 512])
def test_an_id_that_a_path_can_hold_is_taken(identifier: str) -> None:
    check_bank_id(identifier)


@pytest.mark.parametrize(
    "identifier",
    ["a?b", "a#b", "a%2Fb", "a\\b", "a\nb", "a\0b", "a\u200bb", "/a", "a/", "a//b", "..", "a/../b", "x" * 513],
)
def test_an_id_that_a_path_cannot_hold_is_refused_with_what_may_be(identifier: str) -> None:
    with pytest.raises(InvalidRequest, match="letters, digits, spaces and marks such as") as refused:
        check_bank_id(identifier)
    assert refused.value.param == "identifier"
