"""What is trained when: short prompts with one tool first, until copying has appeared, then more and longer."""

import random
from dataclasses import dataclass

from tools.micro_model.dialogues import Difficulty

TOKENS_PER_STEP = 6144


@dataclass(frozen=True)
class Bucket:
    """Rows of one length and what is packed into them."""

    length: int
    difficulty: Difficulty
    share: float

    @property
    def rows(self) -> int:
        return TOKENS_PER_STEP // self.length


@dataclass(frozen=True)
class Stage:
    """Buckets in use up to a step."""

    until_step: int
    buckets: tuple[Bucket, ...]


LAST_STEP = 10**9
STAGES = (
    Stage(220, (Bucket(256, Difficulty(most_tools=1, facts=(1, 2), invent_names=0.4, padding=0.0), 1.0),)),
    Stage(500, (Bucket(256, Difficulty(most_tools=2, facts=(1, 3), invent_names=0.4, padding=0.03), 1.0),)),
    Stage(900, (Bucket(256, Difficulty(most_tools=4, facts=(1, 4), padding=0.05), 1.0),)),
    Stage(
        LAST_STEP,
        (
            Bucket(256, Difficulty(most_tools=4, facts=(1, 5), padding=0.03), 0.7),
            Bucket(512, Difficulty(fewest_tools=2, most_tools=6, facts=(3, 9), branches=(2, 4)), 0.26),
            Bucket(1024, Difficulty(fewest_tools=4, most_tools=10, facts=(8, 24), branches=(3, 5), padding=0.5), 0.04),
        ),
    ),
)


def bucket_for(step: int, rng: random.Random) -> Bucket:
    stage = next(stage for stage in STAGES if step < stage.until_step)
    return rng.choices(stage.buckets, weights=[bucket.share for bucket in stage.buckets])[0]
