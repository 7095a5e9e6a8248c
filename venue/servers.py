"""The servers a venue stands on, private to it: certificates, mosquitto, PostgreSQL."""

import contextlib
import ipaddress
import os
import pwd
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from venue.programs import POLL_S, Program, ProgramError, free_port, is_listening, run_to_end

LOOPBACK: Final = "127.0.0.1"
_SYSTEM_PROGRAMS: Final = f"{os.defpath}:/usr/sbin:/sbin:/usr/local/sbin"
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where one client's or server's files are, as railtix-ops wrote them."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"


def ops(*arguments: str | Path) -> str:
    """Run a command of railtix-ops. Raises ProgramError with what it said."""
    return run_to_end([sys.executable, "-m", "provisioning", *arguments])


class Authority:
    """A certificate authority in `folder`/ca, its certificates in `folder`/issued."""

    def __init__(self, folder: Path) -> None:
        """Open the authority in `folder`, or found one there."""
        self.ca = folder / "ca"
        self._issued = folder / "issued"
        if not self.ca.exists():
            ops("ca", "init", "--ca", self.ca)

    def certify_devices(self, *device_ids: str) -> list[Credentials]:
        """Certificates for appliances, in the order of their ids; a second time renews."""
        ops("ca", "issue", "device", *device_ids, "--ca", self.ca, "--out", self._issued)
        return [Credentials(self._issued / device_id) for device_id in device_ids]

    def certify_workers(self, *names: str) -> list[Credentials]:
        """Certificates for cloud workers; the common names are cloud-worker-NAME."""
        ops("ca", "issue", "worker", *names, "--ca", self.ca, "--out", self._issued)
        return [Credentials(self._issued / f"cloud-worker-{name}") for name in names]

    def certify_server(self, name: str, also_at: str = "localhost") -> Credentials:
        """A certificate for a server on this machine's loopback.

        `also_at`: what a machine that is not this one calls it by.
        """
        names = ("--dns", "localhost", "--ip", LOOPBACK)
        if also_at != "localhost":
            names = (*names, "--ip" if _is_address(also_at) else "--dns", also_at)
        ops("ca", "issue", "server", name, *names, "--ca", self.ca, "--out", self._issued)
        return Credentials(self._issued / name)

    def revoke(self, name: str) -> None:
        """Revoke a device's or worker's certificates; `Broker.take_crl` tells the broker."""
        ops("ca", "revoke", name, "--ca", self.ca)


class Broker(Program):
    """mosquitto with mutual TLS on loopback; forgets everything when it ends."""

    def __init__(
        self,
        folder: Path,
        ca: Path,
        server: Credentials,
        *,
        workers: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        """Have railtix-ops write mosquitto's files into `folder`.

        `workers` are the common names with a worker's rights; none named means all that the
        authority has certified by now.
        """
        self.host: Final = "localhost"
        self.port: Final = port or free_port()
        self.folder: Final = folder
        self._ca = ca
        named = [part for worker in workers for part in ("--worker", worker)]
        ops(
            *("broker", "config", "--ca", ca, "--server", server.folder, "--folder", folder),
            *("--bind", LOOPBACK, "--port", str(self.port), "--user", _own_name(), *named),
        )
        super().__init__(
            "mosquitto",
            [_program("mosquitto"), "-c", folder / "mosquitto.conf"],
            folder / "mosquitto.log",
            ready=lambda: is_listening(self.port),
        )

    def take_crl(self) -> None:
        """Have the running broker read the authority's newest revocation list."""
        ops("broker", "crl", "--ca", self._ca, "--folder", self.folder)


class Postgres(Program):
    """A PostgreSQL cluster of our own: loopback only, no passwords, every commit fsynced.

    Started as root it runs as `postgres`, since PostgreSQL refuses root.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the cluster in `folder`, or in a temporary one that goes when the server stops.

        As root, `folder` becomes the user postgres's, who must be able to reach it.
        """
        self.port: Final = port or free_port()
        self._bin = _postgres_programs()
        self._temporary = folder is None
        self.folder: Final = folder or Path(tempfile.mkdtemp(prefix="railtix-postgres-"))
        user = "postgres" if os.geteuid() == 0 else None
        chosen = {
            "port": str(self.port),
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "logging_collector": "off",
            **(settings or {}),
        }
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        super().__init__(
            "postgres",
            [self._bin / "postgres", "-D", self.folder / "data", *options],
            self.folder / "postgres.log",
            ready=self._accepts,
            ready_within_s=60.0,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            crash_signal=signal.SIGQUIT,  # "immediate": takes its own children along
            user=user,
        )

    def start(self) -> Self:
        """Start, making the cluster the first time. Raises ProgramError."""
        try:
            self._prepare()
            return super().start()
        except BaseException:
            self._remove_temporary()
            raise

    def stop(self, within_s: float = 20.0) -> int | None:
        code = super().stop(within_s)
        self._remove_temporary()
        return code

    def kill(self) -> None:
        """SIGKILL to the server and its children, each of which leads a group of its own.

        Returns once none of them runs: a server started again shares nothing with the dead one.
        """
        children: list[int] = []
        if self.running:
            # A stopped server neither begets nor buries: only then is the list whole (proc(5)).
            os.kill(self.pid, signal.SIGSTOP)
            children = self._children()
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while any(_is_alive(child) for child in children):
            time.sleep(POLL_S)

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy with psycopg 3."""
        return f"postgresql+psycopg://railtix@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database, empty or as `template` is, and return its URL.

        Raises ProgramError where it exists, or where somebody is connected to the template.
        """
        assert _IDENTIFIER.fullmatch(name), f"not a plain database name: {name!r}"
        run_to_end([self._bin / "createdb", *self._address(), "--template", template, name])
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its sessions."""
        run_to_end([self._bin / "dropdb", "--force", *self._address(), name])

    def programs(self) -> Path:
        """The folder of psql, pgbench and the like that fit this server."""
        return self._bin

    def _address(self) -> list[str]:
        return ["--host", LOOPBACK, "--port", str(self.port), "--username", "railtix"]

    def _prepare(self) -> None:
        data = self.folder / "data"
        if data.exists():
            return
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, mode=0o700)
        if self._user is not None:
            shutil.chown(self.folder, user=self._user)
            shutil.chown(draft, user=self._user)
        # Making the cluster is not fsynced, and is done anew if it was cut short; what runs on it
        # is.
        run_to_end(
            [
                *(self._bin / "initdb", "--pgdata", draft, "--username", "railtix"),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            user=self._user,
        )
        draft.rename(data)

    def _accepts(self) -> bool:
        with contextlib.suppress(ProgramError):
            run_to_end([self._bin / "pg_isready", "--quiet", *self._address()])
            return True
        return False

    def _children(self) -> list[int]:
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return [int(pid) for pid in listed.read_text("ascii").split()]
        return []

    def _remove_temporary(self) -> None:
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    """Whether a process still holds anything: a zombie holds only its number."""
    try:
        # The name in parentheses may hold anything; the state follows the last of them.
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _postgres_programs() -> Path:
    """The newest installed server's programs: Debian keeps them out of PATH."""
    installed = [
        folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if folder.parent.name.isdecimal() and (folder / "initdb").exists()
    ]
    if installed:
        return max(installed, key=lambda folder: int(folder.parent.name))
    return Path(_program("initdb")).resolve().parent


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_PROGRAMS)
    if found is None:
        msg = f"{name} is not installed"
        raise ProgramError(msg)
    return found


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _own_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
