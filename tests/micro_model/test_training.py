"""The trainer: a resumed run goes on exactly where it stopped."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is a development extra")
pytest.importorskip("tokenizers", reason="tokenizers is a development extra")

from tools.micro_model.model import MicroLlama, ModelShape  # noqa: E402
from tools.micro_model.packing import IGNORED, training_batch  # noqa: E402
from tools.micro_model.tokenizer import load_tokenizer, padded_vocabulary_size  # noqa: E402
from tools.micro_model.train import Trainer, TrainingPlan, average_checkpoints  # noqa: E402

TOKENIZER = load_tokenizer(Path(__file__).parents[2] / "weights" / "llama-micro" / "tokenizer.json")
PLAN = TrainingPlan(minutes=60, seed=3, threads=1, compiled=False)


def tiny_trainer() -> Trainer:
    shape = ModelShape(padded_vocabulary_size(TOKENIZER), width=32, layers=1, heads=2, kv_heads=1, ffn_width=32)
    return Trainer(shape, TOKENIZER, PLAN)


def take_steps(trainer: Trainer, count: int) -> list[float]:
    return [trainer.train_step(training_batch(trainer.step, PLAN.seed, TOKENIZER)) for _ in range(count)]


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = tiny_trainer()
    losses = take_steps(straight, 4)

    first = tiny_trainer()
    assert take_steps(first, 2) == losses[:2]
    first.save(tmp_path / "checkpoint.pt")
    resumed = tiny_trainer()
    resumed.load(tmp_path / "checkpoint.pt")

    assert resumed.step == 2
    assert take_steps(resumed, 2) == pytest.approx(losses[2:], rel=1e-4)


def test_two_checkpoints_become_their_mean(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    for name in ("earlier.pt", "later.pt"):
        take_steps(trainer, 1)
        trainer.save(tmp_path / name)
    average_checkpoints(tmp_path / "earlier.pt", tmp_path / "later.pt", tmp_path / "mean.pt")

    earlier, later, mean = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("earlier", "later", "mean")
    )
    assert (mean["step"], "optimizers" in mean) == (2, False)
    for name, weight in mean["weights"].items():
        one, other = earlier["weights"][name], later["weights"][name]
        assert torch.allclose(weight, (one + other) / 2)
        assert torch.equal(one, other) == torch.equal(weight, one)
    with pytest.raises(ValueError, match="the shapes differ"):
        torch.save({**earlier, "shape": {}}, tmp_path / "other.pt")
        average_checkpoints(tmp_path / "other.pt", tmp_path / "later.pt", tmp_path / "mean.pt")


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    assert torch.equal(training_batch(5, 1, TOKENIZER).tokens, training_batch(5, 1, TOKENIZER).tokens)
    assert not torch.equal(training_batch(5, 1, TOKENIZER).tokens, training_batch(6, 1, TOKENIZER).tokens)


def test_a_branch_does_not_see_its_siblings() -> None:
    batch = training_batch(1000, 1, TOKENIZER)
    visible = batch.attention_bias()[0, 0] == 0
    branches, documents = batch.branches[0], batch.documents[0]
    second = int(((branches == 2) & (documents == documents[branches == 2][0])).nonzero()[0])
    sibling = (branches == 1) & (documents == documents[second])

    assert not visible[second][sibling].any()
    assert visible[second][(branches == 0) & (documents == documents[second])].all()


def test_only_what_the_assistant_says_is_trained() -> None:
    batch = training_batch(2, 1, TOKENIZER)
    trained = sum(answer.stop - answer.start for answer in batch.answers)

    assert int((batch.targets != IGNORED).sum()) == trained


def test_the_model_has_between_four_and_eight_million_parameters() -> None:
    assert 4e6 <= MicroLlama(ModelShape(padded_vocabulary_size(TOKENIZER))).parameter_count() <= 8e6
