"""Keeps the Python processes that tests start off the network; Python imports it as it starts.

A connection to anything but this machine is refused and noted in a file, by which the tests fail
(tests/conftest.py). Processes that train together join over the loopback interface.
"""

import ipaddress
import os
import socket


def is_local(family: int, address: object) -> bool:
    """Whether a connection stays on this machine."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = address[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


for name in ("connect", "connect_ex"):
    connect = getattr(socket.socket, name)

    def guarded(self, address, connect=connect):
        """Connect, to this machine only."""
        if not is_local(self.family, address):
            with open(os.environ["NETWORK_ATTEMPTS"], "a") as stream:  # noqa: PTH123 - few imports
                stream.write(f"{os.getpid()}: {address}\n")
            raise ConnectionRefusedError(f"a test's process tried to reach {address}")
        return connect(self, address)

    setattr(socket.socket, name, guarded)
