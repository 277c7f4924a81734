"""Runs a command of Streamlit in a process whose sockets reach this machine alone: every try to leave is written down and
fails. `python tests/closed_network.py LOG run app.py --server.port 8501`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

HOME = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)


def close(log: Path) -> None:
    """From now on a connection, a datagram or a look-up of a name that leaves this machine raises OSError."""

    def guarded(name: str, place: int) -> Any:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            address = arguments[place] if place < len(arguments) else arguments[-1]
            if self.family != socket.AF_UNIX and isinstance(address, tuple) and address[0] not in HOME:
                _leaves(log, name, address)
            return real(self, *arguments)

        return call

    for name, place in (("connect", 0), ("connect_ex", 0), ("sendto", 1)):
        setattr(socket.socket, name, guarded(name, place))
    real_lookup = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in HOME and host != socket.gethostname():
            _leaves(log, "getaddrinfo", host)
        return real_lookup(host, *arguments, **options)

    socket.getaddrinfo = look_up


def _leaves(log: Path, what: str, where: object) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{what} {where}\n")
    raise OSError(f"closed network: {what} {where}")


if __name__ == "__main__":
    close(Path(sys.argv[1]))
    sys.path.insert(0, os.getcwd())
    sys.argv = ["streamlit", *sys.argv[2:]]
    from streamlit.web.cli import main

    main()
