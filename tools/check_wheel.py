"""Build the wheel, install it in a clean environment outside the checkout, and use it there.

This is what catches a file that is in the checkout but not in the package. Prints install time, packages and size.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAM = """
from llama_stack import LlamaStack
with LlamaStack.open("starter") as stack:
    print("answer:", stack.chat("hello").text)
    assert len(stack.embed("hello").vectors[0]) == 384
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder))
    return 0


def check(folder: Path) -> None:
    build = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    run([sys.executable, "-c", build], cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    venv = folder / "venv"
    run([sys.executable, "-m", "venv", str(venv)])
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    started = time.monotonic()
    run([str(scripts / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel)])
    seconds = time.monotonic() - started
    environment = {**os.environ, "LLAMA_STACK_HOME": str(folder / "home")}
    for arguments in (["--version"], ["stack", "list"], ["stack", "list-providers"], ["stack", "show", "starter"]):
        run([str(scripts / "llama"), *arguments], cwd=folder, env=environment)
    run([str(scripts / "python"), "-c", PROGRAM], cwd=folder, env=environment)
    size = sum(file.stat().st_size for file in venv.rglob("*") if file.is_file() and not file.is_symlink())
    packages = len(list(venv.glob("**/*.dist-info")))
    print(
        f"wheel {wheel.stat().st_size / 1e6:.1f} MB; installed in {seconds:.0f} s: "
        f"{packages} packages, {size / 1e6:.0f} MB"
    )


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    print("$", " ".join(command), flush=True)
    subprocess.run(command, cwd=cwd, env=env, check=True, timeout=600)


if __name__ == "__main__":
    sys.exit(main())
