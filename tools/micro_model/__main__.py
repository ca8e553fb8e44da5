"""Command line of the micro model.

python -m tools.micro_model build       everything below, from a seed: the reproduction of the shipped model
python -m tools.micro_model tokenizer   learn weights/llama-micro/tokenizer.json from the training mix
python -m tools.micro_model train       train, or go on from the checkpoint in --out
python -m tools.micro_model export      write the GGUF of a checkpoint
python -m tools.micro_model evaluate    score a GGUF on the cases of tests/micro_model
python -m tools.micro_model floor       score it and make the result the floor of tests/micro_model
python -m tools.micro_model cases       write the generated cases again
python -m tools.micro_model average     mix the checkpoint of --earlier into that of --out, half and half
python -m tools.micro_model slim        a checkpoint without optimizer state, in bfloat16, small enough to commit
"""

import argparse
import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "weights" / "llama-micro"
RUNS = ROOT / "runs" / "micro"
CHECKPOINT = Path(__file__).parent / "checkpoint"
CASES = ROOT / "tests" / "micro_model" / "cases"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.micro_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["build", "tokenizer", "train", "export", "evaluate", "floor", "cases", "average", "slim"]
    )
    parser.add_argument(
        "--minutes", type=float, default=90.0, help="training time in all, earlier runs of the checkpoint included"
    )
    parser.add_argument("--out", type=Path, default=RUNS, help="folder of the checkpoint and the log")
    parser.add_argument(
        "--earlier", type=Path, default=CHECKPOINT / "checkpoint.pt", help="the other checkpoint of `average`"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument(
        "--constant-share", type=float, default=0.3, help="part of the time before the learning rate decays"
    )
    parser.add_argument("--misses", type=int, default=0, help="how many misses of each gate `evaluate` shows")
    parser.add_argument("--gguf", type=Path, default=SHIPPED / "llama-micro.gguf")
    return parser


def main() -> None:
    options = arguments().parse_args()
    # Waiting threads must sleep, not spin: on a busy machine spinning costs more than half of the speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from tools.micro_model.evaluation import evaluate, floor, summary
    from tools.micro_model.export import export_gguf
    from tools.micro_model.held_out import write_held_out
    from tools.micro_model.tokenizer import train_tokenizer
    from tools.micro_model.train import TrainingPlan, average_checkpoints, slim_checkpoint, train

    tokenizer_path = SHIPPED / "tokenizer.json"
    plan = TrainingPlan(
        minutes=options.minutes,
        seed=options.seed,
        threads=options.threads,
        learning_rate=options.learning_rate,
        constant_share=options.constant_share,
    )
    if options.command in ("build", "tokenizer"):
        train_tokenizer(tokenizer_path)
    if options.command in ("build", "train"):
        train(plan, options.out, tokenizer_path)
    if options.command == "average":
        average_checkpoints(options.earlier, options.out / "checkpoint.pt", options.out / "checkpoint.pt")
    if options.command in ("build", "export"):
        export_gguf(options.out / "checkpoint.pt", tokenizer_path, options.gguf)
    if options.command == "cases":
        write_held_out(CASES / "held_out.jsonl")
    if options.command in ("build", "evaluate"):
        print(summary(evaluate(options.gguf, CASES), options.misses))
    if options.command == "floor":
        scores = evaluate(options.gguf, CASES)
        print(summary(scores, options.misses))
        (CASES.parent / "floor.json").write_text(json.dumps(floor(scores), indent=2) + "\n")
    if options.command == "slim":
        slim_checkpoint(options.out / "checkpoint.pt", CHECKPOINT / "checkpoint.pt")


if __name__ == "__main__":
    main()
