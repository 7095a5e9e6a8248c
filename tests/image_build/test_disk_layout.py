import re
import zlib
from itertools import pairwise

import pytest

from image.build.layout import LAYOUT, Layout, boot_state, genimage, u_boot_environment


def _variables(copy: bytes) -> dict[str, str]:
    assert int.from_bytes(copy[:4], "little") == zlib.crc32(copy[5:])
    pairs = copy[5:].rstrip(b"\0").decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


def test_a_fresh_image_tries_slot_a_first_and_has_three_tries_for_each() -> None:
    for copy in boot_state(LAYOUT):
        assert _variables(copy) == {"BOOT_ORDER": "A B", "BOOT_A_LEFT": "3", "BOOT_B_LEFT": "3"}


def test_one_copy_of_the_boot_state_is_newer_and_each_is_one_sector() -> None:
    one, two = boot_state(LAYOUT)
    assert (one[4], two[4]) == (1, 0)
    assert len(one) == len(two) == 512


def test_no_two_parts_of_the_disk_overlap() -> None:
    spans = [
        (LAYOUT.copy_one, LAYOUT.copy_size),
        (LAYOUT.copy_two, LAYOUT.copy_size),
        (LAYOUT.boot_at, LAYOUT.boot_size),
    ]
    assert LAYOUT.copy_one >= 1 << 20  # behind the partition table
    for (at, size), (following, _) in pairwise(spans):
        assert at + size <= following


def test_the_plan_of_the_disk_has_the_signature_that_the_boot_script_asks_for() -> None:
    plan = genimage(LAYOUT, root="root.ext4", image="x.img")
    assert f"disk-signature = 0x{LAYOUT.signature_text}" in plan
    script = LAYOUT.template("boot.cmd", ARGUMENTS="")
    assert f"root=PARTUUID={LAYOUT.signature_text}-0" in script


def test_data_is_the_last_partition_and_says_that_it_was_never_made() -> None:
    plan = genimage(LAYOUT, root="root.ext4", image="x.img")
    names = re.findall(r"^  partition ([a-z-]+) \{", plan, re.MULTILINE)
    assert names == ["state-one", "state-two", "boot", "root-a", "root-b", "data"]
    assert "partition-type = 0xDA" in plan[plan.index("partition data") :]


def test_what_is_flashed_covers_the_head_of_data_so_that_a_used_card_is_erased() -> None:
    plan = genimage(LAYOUT, root="root.ext4", image="x.img")
    assert "fill = true" in plan[: plan.index("partition ")]
    places = [LAYOUT.boot_at + LAYOUT.boot_size, LAYOUT.slot_size, LAYOUT.slot_size]
    assert sum(places) == LAYOUT.data_at


def test_linux_and_u_boot_look_for_the_boot_state_in_the_same_sectors() -> None:
    environment = LAYOUT.template("fw_env.config")
    places = re.findall(
        r"^/dev/railtix/disk\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)$", environment, re.MULTILINE
    )
    script = LAYOUT.template("boot.cmd", ARGUMENTS="")
    sectors = re.findall(r"setenv block ([0-9a-f]+)", script)
    assert [int(at, 16) for at, _ in places] == [int(sector, 16) * 512 for sector in sectors]
    assert {int(size, 16) for _, size in places} == {512}


def test_a_name_that_nobody_fills_in_is_refused() -> None:
    with pytest.raises(ValueError, match="@NOBODY@"):
        LAYOUT.fill("x=@NOBODY@")


@pytest.mark.parametrize("tries", [1, 5])
def test_the_tries_are_the_same_for_u_boot_and_rauc(tries: int) -> None:
    layout = Layout(tries=tries)
    assert f"boot-attempts={tries}" in layout.template("system.conf", COMPATIBLE="x")
    assert f"setenv BOOT_A_LEFT {tries}" in layout.template("boot.cmd", ARGUMENTS="")
    assert _variables(boot_state(layout)[0])["BOOT_B_LEFT"] == str(tries)


def test_no_key_stops_u_boot_on_a_pi_and_its_other_defaults_stay() -> None:
    program = b"help\0\0bootcmd=bootflow scan\0bootdelay=2\0board=rpi\0\0more"
    environment = u_boot_environment(program)
    assert len(environment) == 0x4000
    assert int.from_bytes(environment[:4], "little") == zlib.crc32(environment[4:])
    variables = environment[4:].rstrip(b"\0").split(b"\0")
    assert variables == [b"bootcmd=bootflow scan", b"board=rpi", b"bootdelay=-2"]


def test_a_kernel_on_a_pi_has_room_before_the_initramfs() -> None:
    script = LAYOUT.template("boot.cmd", ARGUMENTS="")
    kernel, initramfs = (
        int(at, 16) for at in re.findall(r"setenv (?:kernel|ramdisk)_addr_r (0x[0-9a-f]+)", script)
    )
    assert initramfs - kernel >= 128 << 20
