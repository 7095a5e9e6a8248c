"""A card without a card: what the tools would do to it, and power that goes at any of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device.storage.boot_settings import BootSettings
from device.storage.deciding import MAKING, NEVER_MADE, Encryption, Refused
from device.storage.finding import Place
from device.storage.preparing import NAME, Machine, Ready, prepare
from device.storage.tools import Done, Tools

CARD_SECTORS = 32 * 1024 * 1024
IMAGE_SECTORS = 16 * 1024


class PowerCutError(Exception):
    """Everything in memory is gone."""


@dataclass
class FileSystem:
    label: str
    files: list[str] = field(default_factory=list[str])
    """What the appliance kept there."""
    damage: int = 0
    """e2fsck's exit code when it preens."""
    mended: int = 1
    """And when it mends."""


@dataclass
class Container:
    label: str
    uuid: str
    keys: set[bytes]
    has_tpm: bool = False
    inside: FileSystem | None = None


@dataclass
class Card:
    """What a tool finds and leaves; `cut_at` counts the steps at which the power may go."""

    folder: Path
    kind: int = NEVER_MADE
    sectors: int = IMAGE_SECTORS
    content: "FileSystem | Container | str | None" = None
    serial: str = "10000000deadbeef"
    has_tpm: bool = True
    unreadable_times: int = 0
    inside_is_readable: bool = True
    label: str = "dos"
    cut_at: int | None = None
    steps: int = 0
    formats: int = 0
    said: list[str] = field(default_factory=list[str])
    tools_run: list[list[str]] = field(default_factory=list[list[str]])

    def __post_init__(self) -> None:
        for name in ("mapper", "run"):
            (self.folder / name).mkdir()
        (self.folder / "card").touch()
        (self.folder / "part4").touch()

    @property
    def opened(self) -> Path:
        return self.folder / "mapper" / NAME

    def start(self, wanted: Encryption | Refused = "none") -> Ready | Refused:
        """The appliance starts: memory is empty, the card is as it was left."""
        self.opened.unlink(missing_ok=True)
        for left in (self.folder / "run").iterdir():
            left.unlink()
        return self.try_again(wanted)

    def try_again(self, wanted: Encryption | Refused = "none") -> Ready | Refused:
        """The unit once more, with the machine on all the while."""
        machine = Machine(
            tools=Tools(self),
            serial=lambda: self.serial,
            random=lambda size: b"\x05" * size,
            pause=lambda: None,
            say=self.said.append,
            run_folder=self.folder / "run",
            mapper=self.folder / "mapper",
        )
        place = Place(self.folder / "card", CARD_SECTORS, self.folder / "part4")
        asked = wanted if isinstance(wanted, Refused) else BootSettings(wanted)
        return prepare(machine, place, asked)

    def keep(self, words: str) -> None:
        """The appliance writes down what must never be lost."""
        self._file_system().files.append(words)

    def kept(self) -> list[str]:
        return self._file_system().files

    def _file_system(self) -> FileSystem:
        found = self.content.inside if isinstance(self.content, Container) else self.content
        assert isinstance(found, FileSystem)
        return found

    def _step(self) -> None:
        self.steps += 1
        if self.cut_at == self.steps:
            raise PowerCutError

    def __call__(self, argv: Sequence[str], given: bytes) -> Done:
        self.tools_run.append(list(argv))
        self._step()
        done = self._do(list(argv), given)
        self._step()
        return done

    def _do(self, argv: list[str], given: bytes) -> Done:  # noqa: C901, PLR0912 -- a branch a tool
        match argv:
            case ["sfdisk", "--json", _]:
                return Done(0, self._table(), "")
            case ["sfdisk", *_, "--part-type", _, "4", kind]:
                self.kind = int(kind, 16)
            case ["sfdisk", *options]:
                assert given == b", +\n"
                assert options[-3:-1] == ["-N", "4"]
                self.sectors = CARD_SECTORS - IMAGE_SECTORS
            case ["blkid", *_, node]:
                return self._probe(Path(node))
            case ["mke2fs", *_, label, node]:
                self._format(Path(node), FileSystem(label))
            case ["e2label", _, label]:
                self._file_system().label = label
            case ["e2fsck", mode, *_]:
                return self._check(mend=mode == "-f")
            case ["cryptsetup", "luksFormat", *options]:
                uuid = options[options.index("--uuid") + 1]
                self._format(self.folder / "part4", Container(MAKING, uuid, {given}))
            case ["cryptsetup", "luksDump", *_]:
                return Done(0, json.dumps({"tokens": self._tokens()}), "")
            case ["cryptsetup", "luksUUID", _]:
                return Done(0, self._container().uuid + "\n", "")
            case ["cryptsetup", "config", "--label", label, _]:
                self._container().label = label
            case ["cryptsetup", "open", *_]:
                if given not in self._container().keys:
                    return Done(2, "", "No key available with this passphrase.")
                self.opened.touch()
            case ["cryptsetup", "close", _]:
                self.opened.unlink()
            case ["systemd-cryptsetup", "attach", *_]:
                if not (self.has_tpm and self._container().has_tpm):
                    return Done(1, "", "no TPM2 device")
                self.opened.touch()
            case ["systemd-cryptenroll", key_file, *_]:
                return self._enrol(Path(key_file.partition("=")[2]))
            case ["blockdev" | "partx" | "udevadm", *_]:
                pass
            case _:
                raise AssertionError(argv)
        return Done(0, "", "")

    def _table(self) -> str:
        starts = [8192, 16384, 24576, IMAGE_SECTORS * 2]
        sizes = [8192, 8192, 8192, self.sectors]
        kinds = ["c", "83", "83", f"{self.kind:x}"]
        entries = [
            {"node": f"card{number}", "start": start, "size": size, "type": kind}
            for number, (start, size, kind) in enumerate(zip(starts, sizes, kinds, strict=True), 1)
        ]
        return json.dumps({"partitiontable": {"label": self.label, "partitions": entries}})

    def _format(self, node: Path, made: "FileSystem | Container") -> None:
        """Half of it is nothing that anybody knows."""
        self.formats += 1
        if node == self.opened:
            container = self._container()
            container.inside = None
            self._step()
            assert isinstance(made, FileSystem)
            container.inside = made
        else:
            self.content = None
            self._step()
            self.content = made

    def _probe(self, node: Path) -> Done:
        if node == self.opened and not self.inside_is_readable:
            return Done(4, "", "Input/output error")
        if self.unreadable_times:
            self.unreadable_times -= 1
            return Done(4, "", "Input/output error")
        found = self._container().inside if node == self.opened else self.content
        in_table = f"DEVNAME={node}\nPART_ENTRY_SCHEME=dos\nPART_ENTRY_NUMBER=4\n"
        match found:
            case None if node != self.opened:
                return Done(0, in_table, "")
            case FileSystem(label):
                return Done(0, f"DEVNAME={node}\nLABEL={label}\nTYPE=ext4\n", "")
            case Container(label):
                return Done(0, f"DEVNAME={node}\nLABEL={label}\nTYPE=crypto_LUKS\n", "")
            case str(name):
                return Done(0, f"DEVNAME={node}\nTYPE={name}\n", "")
            case None:
                return Done(2, "", "")

    def _check(self, *, mend: bool) -> Done:
        found = self._file_system()
        if mend:
            code = found.mended
            found.damage = 0
            return Done(code, "mended", "")
        return Done(found.damage, "UNEXPECTED INCONSISTENCY" if found.damage == 4 else "", "")

    def _container(self) -> Container:
        assert isinstance(self.content, Container)
        return self.content

    def _tokens(self) -> dict[str, dict[str, str]]:
        return {"0": {"type": "systemd-tpm2"}} if self._container().has_tpm else {}

    def _enrol(self, key_file: Path) -> Done:
        assert key_file.stat().st_mode & 0o077 == 0
        assert key_file.read_bytes() in self._container().keys
        if not self.has_tpm:
            return Done(1, "", "no TPM2 device found")
        self._container().has_tpm = True
        self._container().keys.clear()
        return Done(0, "", "")
