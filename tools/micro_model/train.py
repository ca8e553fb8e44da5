"""The trainer: resumable, seeded, on a CPU.

Muon for the matrices and AdamW for embeddings and norms, bfloat16 autocast and torch.compile; a short warm-up, a
constant phase, then a linear decay to nearly nothing over the rest of the time: that is where most of the late gain
comes from.
"""

import json
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from tokenizers import Tokenizer
from torch import Tensor

from tools.micro_model.model import MicroLlama, ModelShape
from tools.micro_model.packing import IGNORED, Batch, training_batch
from tools.micro_model.tokenizer import load_tokenizer, padded_vocabulary_size

WARMUP_STEPS = 60
CLIP_NORM = 1.0


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast. `minutes` counts all training time, that of earlier runs of a checkpoint included."""

    minutes: float
    seed: int = 1
    threads: int = 2
    learning_rate: float = 3e-3
    constant_share: float = 0.3
    save_every_s: float = 240.0
    report_every_steps: int = 200
    last_step: int | None = None
    compiled: bool = True

    def rate_at(self, warm_steps: int, share_of_time: float) -> float:
        """The learning rate after so many steps with these optimizers."""
        warm = min(1.0, (warm_steps + 1) / WARMUP_STEPS)
        decay = min(1.0, max(0.01, (1.0 - share_of_time) / (1.0 - self.constant_share)))
        return self.learning_rate * warm * decay


class Trainer:
    """A model, its optimizers and the number of steps behind them."""

    def __init__(self, shape: ModelShape, tokenizer: Tokenizer, plan: TrainingPlan) -> None:
        torch.manual_seed(plan.seed)
        torch.set_num_threads(plan.threads)
        self.plan = plan
        self.tokenizer = tokenizer
        self.model = MicroLlama(shape)
        matrices = [
            weight for name, weight in self.model.named_parameters() if weight.ndim == 2 and "embedding" not in name
        ]
        others = [weight for name, weight in self.model.named_parameters() if weight.ndim != 2 or "embedding" in name]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=plan.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.forward: Any = torch.compile(self.model, dynamic=False) if plan.compiled else self.model
        self.step = 0
        self.optimizers_since = 0
        self.elapsed_s = 0.0
        self.tokens_seen = 0
        self.messages_seen = 0

    def hidden(self, batch: Batch) -> Tensor:
        cosines = self.model.cosines[batch.positions][:, None].bfloat16()
        sines = self.model.sines[batch.positions][:, None].bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            states: Tensor = self.forward(batch.tokens, batch.attention_bias(), cosines, sines)
        return states

    def train_step(self, batch: Batch) -> float:
        """One update; returns the weighted loss."""
        rate = self.plan.rate_at(self.step - self.optimizers_since, self.elapsed_s / (self.plan.minutes * 60))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        trained = batch.targets != IGNORED
        logits = self.model.logits(self.hidden(batch)[trained].float())
        weights = batch.weights[trained]
        losses = functional.cross_entropy(logits, batch.targets[trained], reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens_seen += int((batch.documents >= 0).sum())
        self.messages_seen += len(batch.answers)
        return float(loss.detach())

    @torch.no_grad()  # type: ignore[untyped-decorator]  # torch is not followed by the type checker
    def exact_messages(self, batches: list[Batch]) -> dict[str, tuple[int, int]]:
        """(exact, all) held-out messages by kind, each judged with the right text before it."""
        counts: dict[str, tuple[int, int]] = {}
        for batch in batches:
            hits = self.model.logits(self.hidden(batch).float()).argmax(-1) == batch.targets
            for place in batch.answers:
                exact, total = counts.get(place.kind, (0, 0))
                right = bool(hits[place.row, place.start : place.stop].all())
                counts[place.kind] = (exact + right, total + 1)
        return counts

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs, atomically."""
        state = {
            "shape": self.model.shape.to_json(),
            "weights": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "optimizers_since": self.optimizers_since,
            "elapsed_s": self.elapsed_s,
            "tokens_seen": self.tokens_seen,
            "messages_seen": self.messages_seen,
            "seed": self.plan.seed,
        }
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.rename(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint; one without optimizer state starts with fresh optimizers."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict({name: weight.float() for name, weight in state["weights"].items()})
        for optimizer, saved in zip(self.optimizers, state.get("optimizers", []), strict=False):
            optimizer.load_state_dict(saved)
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        self.optimizers_since = state.get("optimizers_since", 0) if "optimizers" in state else self.step
        self.tokens_seen, self.messages_seen = state["tokens_seen"], state["messages_seen"]


def slim_checkpoint(source: Path, target: Path) -> None:
    """Write the checkpoint without optimizer state and with bfloat16 weights; a run can go on from it."""
    state = torch.load(source, weights_only=True)
    state.pop("optimizers", None)
    state["weights"] = {name: weight.bfloat16() for name, weight in state["weights"].items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, target)


def average_checkpoints(earlier: Path, later: Path, target: Path) -> None:
    """Write the later checkpoint with the mean of both's weights, and without optimizer state.

    Two checkpoints of one run often answer better together than either alone (Wortsman et al., "Model soups", 2022).

    Raises ValueError for checkpoints of different shape.
    """
    first, state = (torch.load(path, weights_only=True) for path in (earlier, later))
    if first["shape"] != state["shape"]:
        raise ValueError(f"the shapes differ: {first['shape']} and {state['shape']}")
    state.pop("optimizers", None)
    pairs = ((name, first["weights"][name].float(), weight.float()) for name, weight in state["weights"].items())
    state["weights"] = {name: (one + other) / 2 for name, one, other in pairs}
    torch.save(state, target)


def prefetch(first_step: int, plan: TrainingPlan, tokenizer: Tokenizer) -> "queue.Queue[Batch]":
    """Batches in step order, made in a thread ahead of their use."""
    ready: queue.Queue[Batch] = queue.Queue(4)

    def produce() -> None:
        step = first_step
        while True:
            ready.put(training_batch(step, plan.seed, tokenizer))
            step += 1

    threading.Thread(target=produce, daemon=True).start()
    return ready


def train(plan: TrainingPlan, folder: Path, tokenizer_path: Path, shape: ModelShape | None = None) -> Path:
    """Train until the plan's time or last step, resuming from the folder's checkpoint where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    tokenizer = load_tokenizer(tokenizer_path)
    trainer = Trainer(shape or ModelShape(padded_vocabulary_size(tokenizer)), tokenizer, plan)
    if checkpoint.exists():
        trainer.load(checkpoint)
    log = (folder / "train.jsonl").open("a")
    held_out = [training_batch(10**8 + number, plan.seed, tokenizer, held_out=True) for number in range(6)]
    batches = prefetch(trainer.step, plan, tokenizer)
    before_s, started, saved = trainer.elapsed_s, time.monotonic(), time.monotonic()
    losses: list[float] = []
    while trainer.elapsed_s < plan.minutes * 60 and (plan.last_step is None or trainer.step < plan.last_step):
        losses.append(trainer.train_step(batches.get()))
        trainer.elapsed_s = before_s + time.monotonic() - started
        if trainer.step % plan.report_every_steps == 0 or trainer.step in (1, 10, 20, 50, 100):
            report(trainer, losses[-50:], held_out if trainer.step >= 200 else [], log)
        if time.monotonic() - saved > plan.save_every_s:
            trainer.save(checkpoint)
            saved = time.monotonic()
    report(trainer, losses[-50:], held_out, log)
    trainer.save(checkpoint)
    return checkpoint


def report(trainer: Trainer, losses: list[float], held_out: list[Batch], log: Any) -> None:
    entry = {
        "step": trainer.step,
        "seconds": round(trainer.elapsed_s),
        "tokens": trainer.tokens_seen,
        "messages": trainer.messages_seen,
        "loss": round(sum(losses) / max(1, len(losses)), 4),
        "exact": {
            kind: f"{exact}/{total}" for kind, (exact, total) in sorted(trainer.exact_messages(held_out).items())
        },
    }
    print(json.dumps(entry), file=log, flush=True)
