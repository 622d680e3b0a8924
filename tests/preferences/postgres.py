"""A PostgreSQL server for the tests: a real one, with its data in a folder that goes when it goes."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn
from urllib.parse import quote

import psycopg
import pytest

_START = 60.0  # seconds


def binaries() -> Path | None:
    """The folder of initdb and postgres, of the newest version; None where there is none."""
    found = shutil.which("postgres")
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    folders.sort(key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0, reverse=True)
    for folder in ([Path(found).parent] if found else []) + folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    return None


def do_without() -> NoReturn:
    """Skips the test, or fails it where $KEEL_REQUIRE names PostgreSQL."""
    reason = "PostgreSQL is not installed (Debian, Ubuntu: apt install postgresql)"
    if "postgres" in os.environ.get("KEEL_REQUIRE", "").split():
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Server:
    """Listens on a socket in its own folder. PostgreSQL does not run as root: then it runs as the user `postgres`."""

    programs: Path
    folder: Path = field(init=False)
    process: "subprocess.Popen[bytes]" = field(init=False)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def __enter__(self) -> "Server":
        self.folder = Path(tempfile.mkdtemp(prefix="keel-pg-"))
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        user, group, groups = None, None, None
        if account is not None:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            user, group, groups = account.pw_uid, account.pw_gid, list[int]()
        data = self.folder / "data"
        make = [self.programs / "initdb", "-D", data, "-U", "keel", "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run(
            [*map(str, make), "--locale=C"],
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
            user=user,
            group=group,
            extra_groups=groups,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        options = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=on", "max_connections=200"]
        # the server ends with the process that started it, however that ends
        bound = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        start = [*bound, str(self.programs / "postgres"), "-D", str(data)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*start, *(word for option in options for word in ("-c", option))],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=user,
                group=group,
                extra_groups=groups,
            )
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + _START
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise RuntimeError(f"the PostgreSQL server did not start: {error}") from error
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGQUIT)  # at once: the data goes anyhow
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """One statement, committed; its rows."""
        with psycopg.connect(host=str(self.folder), user="keel", dbname="postgres", autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def fresh(self) -> str:
        """The URL of an empty schema that nobody else has."""
        name = f"fresh_{next(self._numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://keel@/postgres?host={self.folder}&options={quote(f'-csearch_path={name}')}"
