"""The shipped tokenizer: lossless, the same piece by piece, and one token for each fixed phrase."""

import random
from pathlib import Path

import pytest

from tools.micro_model.dialogues import Difficulty, draw_tree

pytest.importorskip("tokenizers", reason="tokenizers is a development extra")

from tools.micro_model.tokenizer import load_tokenizer, phrase_tokens

TOKENIZER = load_tokenizer(Path(__file__).parents[2] / "weights" / "llama-micro" / "tokenizer.json")


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return found


def test_text_survives_and_pieces_encode_as_the_whole() -> None:
    rng = random.Random(5)
    for _ in range(200):
        tree = draw_tree(rng, Difficulty())
        pieces = [tree.prefix, *(piece.text for piece in tree.branches[0])]
        whole = "".join(pieces)
        assert [token for piece in pieces for token in ids(piece)] == ids(whole)
        assert TOKENIZER.decode(ids(whole), skip_special_tokens=False) == whole


@pytest.mark.parametrize("text", ["naïve café 東京 🦙", "a\tb\r\n  c", '{"x": [1, 2.5, null]}', "<|not_special|>"])
def test_any_text_survives(text: str) -> None:
    assert TOKENIZER.decode(ids(text), skip_special_tokens=False) == text


def test_a_word_has_the_same_tokens_after_a_space_and_after_a_quote() -> None:
    assert ids("in Lisbon")[-1:] != []
    word = ids("Lisbon")

    assert ids('"Lisbon')[-len(word) :] == word
    assert ids("go Lisbon")[-len(word) :] == word


def test_digits_are_tokens_of_their_own() -> None:
    assert len(ids("1048576")) == 7


def test_fixed_phrases_are_one_token() -> None:
    assert [phrase for phrase in phrase_tokens() if len(ids(phrase)) != 1] == []
