"""A PostgreSQL server of the tests' own: Debian's package, a fresh folder, a socket in it, no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest


@contextmanager
def postgres_server(_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SQLAlchemy address of its `postgres` database; skips where the package is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = shutil.which("pg_ctl") or (str(places[-1]) if places else None)
    if found is None:
        pytest.skip("no PostgreSQL server: install Debian's package `postgresql` to test notes on one")
    tools = Path(found).parent
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the path of a socket may have 107 characters
    user = pwd.getpwuid(os.getuid()).pw_name
    as_user: dict[str, object] = {"cwd": folder}
    if os.getuid() == 0:  # the server refuses to run as root
        user = "postgres"
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def call(*command: str) -> None:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **as_user
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    data = folder / "data"
    call(str(tools / "initdb"), "-D", str(data), "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
    call(str(tools / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql+psycopg://{user}@/postgres?host={quote(str(folder))}"
    finally:
        call(str(tools / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
