"""The guard that keeps tests, and the processes they start, off the network."""

import os
import socket
import subprocess
import sys

import pytest

ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation; connecting by UDP sends nothing
CHILD = f"import socket; socket.socket(type=socket.SOCK_DGRAM).connect({ELSEWHERE})"


def test_a_test_that_connects_fails():
    with pytest.raises(pytest.fail.Exception, match="192.0.2.1"):
        socket.socket(type=socket.SOCK_DGRAM).connect(ELSEWHERE)


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control"])
def test_a_process_that_a_test_starts_is_refused_and_noted(tmp_path, is_guarded):
    attempts = tmp_path / "attempts"
    environment = {**os.environ, "NETWORK_ATTEMPTS": str(attempts)}
    if not is_guarded:
        del environment["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True
    )
    is_refused = "ConnectionRefusedError: a test's process tried to reach" in done.stderr
    assert is_refused is is_guarded
    assert attempts.exists() is is_guarded


def test_a_process_may_reach_this_machine(tmp_path):
    """As processes that train together do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection({server.getsockname()!r}).close()"
        subprocess.run([sys.executable, "-c", connect], check=True)
