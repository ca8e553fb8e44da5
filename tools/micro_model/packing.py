"""Trees packed into rows: token ids, targets, weights, and who may see whom.

A token sees its own document's shared prefix and its own branch; its position is its depth in the tree. So every branch
trains as if it stood alone behind the prefix. The batch of a step depends on the seed and the step alone, which is all
that a resumed run needs to go on exactly where it stopped.
"""

import random
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tools.micro_model.curriculum import Bucket, bucket_for
from tools.micro_model.dialogues import Tree, draw_tree
from tools.micro_model.tokenizer import PAD

IGNORED = -100
HIDDEN = -1e4
SHARED = 0


@dataclass
class EncodedTree:
    """One tree as flat token lists of equal length; branch number 0 is the shared prefix."""

    kind: str
    ids: list[int]
    branches: list[int]
    positions: list[int]
    answers: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """Where one trained message stands in a batch, as target positions."""

    row: int
    start: int
    stop: int
    kind: str


@dataclass
class Batch:
    """Tensors of one step, each [rows, length]."""

    tokens: Tensor
    targets: Tensor
    weights: Tensor
    documents: Tensor
    branches: Tensor
    positions: Tensor
    answers: list[Answer]

    def attention_bias(self) -> Tensor:
        """[rows, 1, length, length]: 0 where a query may look, very negative elsewhere."""
        length = self.tokens.shape[1]
        same_document = self.documents[:, :, None] == self.documents[:, None, :]
        same_path = (self.branches[:, None, :] == SHARED) | (self.branches[:, :, None] == self.branches[:, None, :])
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        visible = same_document & same_path & earlier
        return torch.zeros(visible.shape, dtype=torch.bfloat16).masked_fill_(~visible, HIDDEN)[:, None]


def encode_tree(tree: Tree, tokenizer: Tokenizer, room: int) -> EncodedTree | None:
    """The tree without the branches that do not fit into `room` tokens; None where nothing fits."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    prefix = encode(tree.prefix)
    encoded = EncodedTree(tree.kind, list(prefix), [SHARED] * len(prefix), list(range(len(prefix))))
    for number, pieces in enumerate(tree.branches, start=1):
        ids: list[int] = []
        answers: list[tuple[int, int]] = []
        for piece in pieces:
            start = len(ids)
            ids += encode(piece.text)
            if piece.trained:
                answers.append((start, len(ids)))
        offset = len(encoded.ids)
        if offset + len(ids) > room:
            continue
        encoded.answers += [(offset + start, offset + stop) for start, stop in answers]
        encoded.ids += ids
        encoded.branches += [number] * len(ids)
        encoded.positions += range(len(prefix), len(prefix) + len(ids))
    return encoded if encoded.answers else None


def draw_rows(rng: random.Random, bucket: Bucket, tokenizer: Tokenizer, held_out: bool) -> list[list[EncodedTree]]:
    """Rows of trees; what is left of a row is filled with the largest of a few trees at hand."""
    pool: list[EncodedTree] = []
    rows = []
    for _ in range(bucket.rows):
        row: list[EncodedTree] = []
        room = bucket.length
        while True:
            while len(pool) < 24:
                tree = encode_tree(draw_tree(rng, bucket.difficulty, held_out=held_out), tokenizer, bucket.length)
                if tree is not None:
                    pool.append(tree)
            fitting = [tree for tree in pool if len(tree.ids) <= room]
            if not fitting:
                break
            chosen = rng.choice(fitting) if not row else max(fitting, key=lambda tree: len(tree.ids))
            pool.remove(chosen)
            row.append(chosen)
            room -= len(chosen.ids)
        rows.append(row)
    return rows


def pack(rows: list[list[EncodedTree]], length: int, pad: int) -> Batch:
    """A target is the next token, set only where the assistant speaks and weighted by 1/sqrt(message length)."""
    shape = (len(rows), length)
    tokens = np.full(shape, pad, np.int64)
    targets = np.full(shape, IGNORED, np.int64)
    weights = np.zeros(shape, np.float32)
    documents = np.full(shape, -1, np.int64)
    branches = np.zeros(shape, np.int64)
    positions = np.zeros(shape, np.int64)
    answers: list[Answer] = []
    for row, trees in enumerate(rows):
        offset = 0
        for number, tree in enumerate(trees):
            span = slice(offset, offset + len(tree.ids))
            tokens[row, span], documents[row, span] = tree.ids, number
            branches[row, span], positions[row, span] = tree.branches, tree.positions
            for start, stop in tree.answers:
                first, last = offset + start - 1, offset + stop - 1
                targets[row, first:last] = tree.ids[start:stop]
                weights[row, first:last] = (stop - start) ** -0.5
                answers.append(Answer(row, first, last, tree.kind))
            offset += len(tree.ids)
    as_tensor = torch.from_numpy
    return Batch(
        as_tensor(tokens),
        as_tensor(targets),
        as_tensor(weights),
        as_tensor(documents),
        as_tensor(branches),
        as_tensor(positions),
        answers,
    )


def training_batch(step: int, seed: int, tokenizer: Tokenizer, held_out: bool = False) -> Batch:
    """The batch of this step, always the same for the same seed."""
    rng = random.Random(f"{seed}/{step}/{held_out}")
    bucket = bucket_for(step, rng)
    return pack(draw_rows(rng, bucket, tokenizer, held_out), bucket.length, tokenizer.token_to_id(PAD) or 0)
