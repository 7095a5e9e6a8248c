"""Makes /data ready to be mounted; may be cut off at any line, and goes on there the next time.

Never formatted: what was made once, what somebody else made, what cannot be read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never
from uuid import NAMESPACE_OID, UUID, uuid5

from device.storage.boot_settings import BootSettings
from device.storage.deciding import (
    FILE_SYSTEM,
    MADE,
    Blank,
    Content,
    Encryption,
    Ext4,
    Luks,
    Make,
    NeedsMending,
    Open,
    Other,
    Refused,
    Sound,
    Unreadable,
    Why,
    decide,
    has_room,
    judge_check,
)
from device.storage.finding import Place
from device.storage.tools import ToolError, Tools

NAME: Final = "railtix-data"
"""What LUKS opens as, below /dev/mapper."""

READ_TRIES: Final = 5


@dataclass(frozen=True)
class Machine:
    """What surrounds the partition."""

    tools: Tools
    serial: Callable[[], str]
    """The board's; empty where it tells none."""
    random: Callable[[int], bytes]
    pause: Callable[[], None]
    say: Callable[[str], None]
    run_folder: Path
    """In memory; a key may lie there for a moment."""
    mapper: Path = Path("/dev/mapper")


@dataclass(frozen=True)
class Ready:
    """May be mounted from here."""

    device: Path
    encryption: Encryption


def prepare(machine: Machine, place: Place, wanted: BootSettings | Refused) -> Ready | Refused:
    """Find out what is there; make it, if it never was; open and check it."""
    try:
        return _prepare(machine, place, wanted)
    except ToolError as error:
        return Refused(Why.FAILED, str(error))


def _prepare(machine: Machine, place: Place, wanted: BootSettings | Refused) -> Ready | Refused:
    tools = machine.tools
    entry = tools.entry(place.disk)
    if entry is None:
        return Refused(Why.FOREIGN, "the partition table is not the image's")
    content = _read(machine, place.node)
    decision = decide(entry.kind, content)
    if isinstance(decision, Refused):
        return decision
    if isinstance(decision, Make) and isinstance(wanted, Refused):
        return wanted

    if has_room(place.disk_sectors, entry.start, entry.sectors):
        machine.say("the data partition grows to the card's end")
        tools.grow(place.disk)

    match decision:
        case Make():
            assert isinstance(wanted, BootSettings)
            machine.say(f"the data partition is made (encryption: {wanted.encryption})")
            return _make(machine, place, wanted.encryption)
        case Open(encryption, mark_made):
            if isinstance(wanted, Refused):
                machine.say(f"{wanted.why}, which does not matter any more: {wanted.detail}")
            elif wanted.encryption != encryption:
                machine.say(f'made with encryption = "{encryption}": that stays')
            if mark_made:
                tools.set_kind(place.disk, MADE)
            return _open(machine, place.node, encryption)
        case _:
            assert_never(decision)


def _read(machine: Machine, node: Path) -> Content:
    """Again, where it cannot be read: a card may only be waking up."""
    content = machine.tools.content(node)
    for _ in range(READ_TRIES - 1):
        match content:
            case Unreadable(error):
                machine.say(f"cannot be read, tried again: {error}")
                machine.pause()
                content = machine.tools.content(node)
            case Blank() | Ext4() | Luks() | Other():
                break
            case _:
                assert_never(content)
    return content


def _make(machine: Machine, place: Place, encryption: Encryption) -> Ready | Refused:
    """Everything under a name that says so, then its own name, then the table: in this order."""
    tools = machine.tools
    match encryption:
        case "none":
            tools.make_file_system(place.node)
            tools.name_file_system(place.node)
        case "serial" | "tpm":
            refused = _make_encrypted(machine, place.node, encryption)
            if refused is not None:
                return refused
        case _:
            assert_never(encryption)
    tools.set_kind(place.disk, MADE)
    return _open(machine, place.node, encryption)


def _make_encrypted(machine: Machine, node: Path, encryption: Encryption) -> Refused | None:
    tools = machine.tools
    uuid = str(uuid5(NAMESPACE_OID, machine.random(16).hex()))
    if encryption == "serial":
        made = _serial_key(machine, uuid)
        if isinstance(made, Refused):
            return made
        key = made
    else:
        key = machine.random(32).hex().encode()
    tools.make_container(node, uuid, key)
    if encryption == "tpm":
        trouble = _hand_to_tpm(machine, node, key)
        if trouble:
            return Refused(Why.NO_TPM, trouble)
    refused = _unlock(machine, node, encryption)
    if refused is not None:
        return refused
    try:
        opened = machine.mapper / NAME
        tools.make_file_system(opened)
        tools.name_file_system(opened)
    finally:
        tools.close(NAME)
    tools.name_container(node)
    return None


def _hand_to_tpm(machine: Machine, node: Path, key: bytes) -> str:
    """The key is in memory's own file system for as long as the TPM takes, and wiped with it."""
    key_file = machine.run_folder / "key"
    try:
        key_file.touch(0o600)
        key_file.write_bytes(key)
        return machine.tools.hand_to_tpm(node, key_file)
    finally:
        key_file.unlink(missing_ok=True)


def _open(machine: Machine, node: Path, encryption: Encryption) -> Ready | Refused:
    if encryption == "none":
        return _check(machine, node, encryption)
    refused = _unlock(machine, node, encryption)
    if refused is not None:
        return refused
    opened = machine.mapper / NAME
    match _read(machine, opened):
        case Ext4(label) if label == FILE_SYSTEM:
            return _check(machine, opened, encryption)
        case Unreadable(error):
            return Refused(Why.UNREADABLE, error)
        case _:
            return Refused(Why.NOTHING_THERE, "its LUKS opened")


def _unlock(machine: Machine, node: Path, encryption: Encryption) -> Refused | None:
    if (machine.mapper / NAME).exists():
        # Opened by a try before this one.
        return None
    if encryption == "tpm":
        trouble = machine.tools.open_by_tpm(node, NAME)
        return Refused(Why.NO_TPM, trouble) if trouble else None
    key = _serial_key(machine, machine.tools.uuid_of_container(node))
    if isinstance(key, Refused):
        return key
    return None if machine.tools.open_by_key(node, NAME, key) else Refused(Why.OTHER_BOARD)


def _serial_key(machine: Machine, uuid: str) -> bytes | Refused:
    from device.storage.serial_key import serial_key  # noqa: PLC0415 -- 50 ms of most starts

    serial = machine.serial()
    return serial_key(serial, UUID(uuid).bytes) if serial else Refused(Why.NO_SERIAL)


def _check(machine: Machine, device: Path, encryption: Encryption) -> Ready | Refused:
    """Preened; only where that is not enough, and the card reads well, mended without asking.

    What a mending loses is found out: the journal's entries are chained, and what was set aside is
    searched for what the cloud is owed.
    """
    preened = machine.tools.check(device, mend=False)
    verdict = judge_check(preened.code, preened.out + preened.err)
    match verdict:
        case Sound(mended):
            if mended:
                machine.say("the file system was mended after a power cut")
            return Ready(device, encryption)
        case Refused():
            return verdict
        case NeedsMending():
            machine.say(f"the file system is damaged, and is mended: {preened.out.strip()}")
        case _:
            assert_never(verdict)
    mended_now = machine.tools.check(device, mend=True)
    machine.say(mended_now.out.strip())
    match judge_check(mended_now.code, mended_now.out + mended_now.err):
        case Sound():
            return Ready(device, encryption)
        case NeedsMending():
            return Refused(Why.DAMAGED)
        case Refused() as refused:
            return refused
