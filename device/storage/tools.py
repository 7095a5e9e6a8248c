"""The system's tools, as they are called: sfdisk, mke2fs, e2fsck, blkid, cryptsetup."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from device.storage.deciding import (
    CONTAINER,
    FILE_SYSTEM,
    MAKING,
    Blank,
    Content,
    Ext4,
    Luks,
    Other,
    Unreadable,
)

HEAD_BYTES: Final = 1024 * 1024
"""What is read before blkid is asked, which takes what it cannot read for nothing."""

NUMBER: Final = 4
"""The data partition's, in the table."""

MAKE_EXT4: Final = (
    *("mke2fs", "-q", "-F", "-t", "ext4"),
    # A few large files and many small slips: 2 KiB of card for each would be inodes for nothing.
    *("-i", "131072", "-m", "1", "-J", "size=32"),
    # Checksums: what a dying card gives back is found, not believed.
    *("-O", "metadata_csum,64bit", "-e", "remount-ro"),
    # All written now: nothing is left for a thread that a power cut would find at work.
    *("-E", "lazy_itable_init=0,lazy_journal_init=0"),
)

MAKE_LUKS: Final = (
    *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--key-file=-"),
    # 64 MiB: the smallest Pi has 512, and everything else starts at the same time.
    *("--pbkdf", "argon2id", "--pbkdf-memory", "65536", "--iter-time", "1000"),
)


@dataclass(frozen=True)
class Done:
    """How a tool ended."""

    code: int
    out: str
    err: str


Run = Callable[[Sequence[str], bytes], Done]
"""Runs a tool with these bytes on its standard input."""


class ToolError(Exception):
    """A tool failed where that says nothing more than so."""


def run(argv: Sequence[str], given: bytes = b"") -> Done:
    """Waits as long as it takes: systemd's own limit is the only one."""
    try:
        done = subprocess.run(  # noqa: S603 -- names and paths of our own, no shell
            argv,
            input=given,
            capture_output=True,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except OSError as error:
        return Done(127, "", f"{argv[0]}: {error.strerror}")
    return Done(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


class _Entry(msgspec.Struct):
    node: str
    start: int
    size: int
    type: str


class _Table(msgspec.Struct):
    label: str
    partitions: list[_Entry]


class _Dump(msgspec.Struct):
    partitiontable: _Table


class _Token(msgspec.Struct):
    type: str


class _Header(msgspec.Struct):
    tokens: dict[str, _Token]


@dataclass(frozen=True)
class Entry:
    """The data partition in the table, in sectors of 512 bytes."""

    kind: int
    start: int
    sectors: int


class Tools:
    """One method a call; ToolError where a tool fails and that has no meaning of its own."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def entry(self, disk: Path) -> Entry | None:
        """The data partition, where the disk has one and it is the last."""
        dump = msgspec.json.decode(self._must("sfdisk", "--json", str(disk)).out, type=_Dump)
        entries = dump.partitiontable.partitions
        if dump.partitiontable.label != "dos" or len(entries) != NUMBER:
            return None
        last = entries[-1]
        if any(each.start > last.start for each in entries):
            return None
        return Entry(int(last.type, 16), last.start, last.size)

    def grow(self, disk: Path) -> None:
        """To the disk's end; one sector is written, and every other partition stays in use."""
        self._change(
            disk,
            *("--wipe", "never", "--wipe-partitions", "never"),
            *("-N", str(NUMBER), str(disk)),
            given=b", +\n",
        )

    def set_kind(self, disk: Path, kind: int) -> None:
        self._change(disk, "--part-type", str(disk), str(NUMBER), f"{kind:x}")

    def _change(self, disk: Path, *arguments: str, given: bytes = b"") -> None:
        self._must("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", *arguments, given=given)
        self._must("blockdev", "--flushbufs", str(disk))
        self._must("partx", "--update", "--nr", str(NUMBER), str(disk))
        self._must("udevadm", "settle", "--timeout=30")

    def content(self, node: Path) -> Content:
        """What is on it, so far as it can be read."""
        try:
            with node.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, HEAD_BYTES, os.POSIX_FADV_DONTNEED)
                opened.read(HEAD_BYTES)
        except OSError as error:
            return Unreadable(str(error.strerror))
        done = self._run(("blkid", "--probe", "--output", "export", str(node)), b"")
        if done.code == 2 and not done.out:
            return Blank()
        if done.code:
            return Unreadable(done.err.strip() or f"blkid: {done.code}")
        tags: dict[str, str] = {}
        for line in done.out.splitlines():
            tag, _, value = line.partition("=")
            tags[tag] = value
        label = tags.get("LABEL", "")
        match tags.get("TYPE"):
            case "ext4":
                return Ext4(label)
            case "crypto_LUKS":
                return Luks(label, self._has_tpm(node))
            case None:
                # blkid says of each partition where it lies in the table, whatever is on it.
                return Other(tags["PTTYPE"]) if "PTTYPE" in tags else Blank()
            case other:
                return Other(other)

    def _has_tpm(self, node: Path) -> bool:
        said = self._must("cryptsetup", "luksDump", "--dump-json-metadata", str(node)).out
        tokens = msgspec.json.decode(said, type=_Header).tokens.values()
        return any(token.type == "systemd-tpm2" for token in tokens)

    def make_file_system(self, node: Path) -> None:
        """Whole, but not called by its name yet."""
        self._must(*MAKE_EXT4, "-L", MAKING, str(node))

    def name_file_system(self, node: Path) -> None:
        self._must("e2label", str(node), FILE_SYSTEM)
        self._must("blockdev", "--flushbufs", str(node))

    def make_container(self, node: Path, uuid: str, key: bytes) -> None:
        self._must(*MAKE_LUKS, "--uuid", uuid, "--label", MAKING, str(node), given=key)

    def name_container(self, node: Path) -> None:
        self._must("cryptsetup", "config", "--label", CONTAINER, str(node))
        self._must("blockdev", "--flushbufs", str(node))

    def uuid_of_container(self, node: Path) -> str:
        return self._must("cryptsetup", "luksUUID", str(node)).out.strip()

    def open_by_key(self, node: Path, name: str, key: bytes) -> bool:
        """False where the key is not its own."""
        done = self._run(("cryptsetup", "open", "--key-file=-", str(node), name), key)
        if done.code == 2:  # cryptsetup(8): no permission (bad passphrase)
            return False
        if done.code:
            raise ToolError(f"cryptsetup open: {done.err.strip()}")
        return True

    def open_by_tpm(self, node: Path, name: str) -> str:
        """What went wrong; empty where it is open."""
        # A TPM may still be starting; nobody is there to be asked for a passphrase.
        options = "tpm2-device=auto,headless=1,token-timeout=20s"
        done = self._run(("systemd-cryptsetup", "attach", name, str(node), "-", options), b"")
        return done.err.strip() or f"code {done.code}" if done.code else ""

    def hand_to_tpm(self, node: Path, key_file: Path) -> str:
        """The TPM's key in place of the file's. What went wrong; empty where nothing did."""
        argv = (
            *("systemd-cryptenroll", f"--unlock-key-file={key_file}", "--tpm2-device=auto"),
            # No PCRs: nothing measures what is started, so that they would bind to nothing.
            *("--tpm2-pcrs=", "--wipe-slot=password", str(node)),
        )
        done = self._run(argv, b"")
        return done.err.strip() or f"code {done.code}" if done.code else ""

    def close(self, name: str) -> None:
        self._must("cryptsetup", "close", name)

    def check(self, node: Path, *, mend: bool) -> Done:
        """e2fsck: what a power cut leaves, or, where that is not enough, everything."""
        return self._run(("e2fsck", *(("-f", "-y") if mend else ("-p",)), str(node)), b"")

    def _must(self, *argv: str, given: bytes = b"") -> Done:
        done = self._run(argv, given)
        if done.code:
            raise ToolError(f"{argv[0]}: {done.err.strip() or done.code}")
        return done
