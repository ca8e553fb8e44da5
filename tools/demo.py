"""Start the starter distribution, let the sample agent answer questions on it, and show every step.

Run by `make run` (with --keep-serving) and `make demo`. The server's own log goes to a file under the stack's home.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from llama_stack.compose import stack_home

ROOT = Path(__file__).parent.parent
START_LIMIT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep-serving", action="store_true", help="go on serving until Ctrl-C")
    parser.add_argument("--port", type=int, default=8321)
    arguments = parser.parse_args()
    url = f"http://127.0.0.1:{arguments.port}"
    with running_server(arguments.port) as server:
        if not wait_until_healthy(server, url):
            return 1
        agent = [sys.executable, str(ROOT / "examples" / "first_agent.py"), "--url", url]
        failed = subprocess.run(agent, check=False).returncode
        if arguments.keep_serving and server.poll() is None:
            keep_serving(server, url)
    return failed


@contextlib.contextmanager
def running_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`llama stack run starter`, ended when the context ends."""
    log = stack_home() / "logs" / "demo-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "llama_stack", "stack", "run", "starter", "--port", str(port)]
    print(f"$ llama stack run starter --port {port}    (log: {log})", flush=True)
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as server:
        try:
            yield server
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
            if server.returncode not in (0, -15):
                print(log.read_text(errors="replace")[-2000:], file=sys.stderr)


def wait_until_healthy(server: "subprocess.Popen[bytes]", url: str) -> bool:
    started = time.monotonic()
    while server.poll() is None and time.monotonic() - started < START_LIMIT_S:
        try:
            if httpx.get(f"{url}/v1/health", timeout=2).status_code == 200:
                print(f"serving on {url} after {time.monotonic() - started:.1f} s\n", flush=True)
                return True
        except httpx.TransportError:
            time.sleep(0.05)
    print("the server did not start; its last words:", file=sys.stderr)
    return False


def keep_serving(server: "subprocess.Popen[bytes]", url: str) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        print(f"\nStill serving on {url}. Try, in another terminal:\n")
        print(f"  {sys.executable} examples/first_agent.py --url {url} --chat")
        print(f"  curl {url}/v1/models\n\nCtrl-C stops the server.", flush=True)
        server.wait()
    print("stopped")


if __name__ == "__main__":
    sys.exit(main())
