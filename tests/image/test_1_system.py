"""The system in the image, looked at from inside and from the network."""

import pytest

from image.emulation.machine import Machine
from image.emulation.neighbour import Neighbour
from image.emulation.stage import Stage
from image.emulation.transcript import Transcript
from image.emulation.volatile_disk import OF_A_FORMER_LIFE

SETTLED_S = 300.0
GIB = 1 << 30
UDP = (53, 67, 68, 69, 111, 123, 137, 161, 5353, 8883)
"""Where something usually listens."""

pytestmark = pytest.mark.timeout(900)


def test_it_comes_up_with_no_failed_unit(
    machine: Machine, stage: Stage, transcript: Transcript
) -> None:
    said = stage.say("systemctl is-system-running --wait || true", SETTLED_S).strip()
    failed = stage.say("systemctl --failed --no-legend --plain")
    assert (said, failed) == ("running", "")
    transcript.fact("system running", f"{machine.seconds():.0f} s")
    transcript.boot(machine)


def test_the_firmware_runs_on_real_parts_and_is_the_shipped_one(stage: Stage) -> None:
    show = "systemctl show railtix-pos -p ActiveState -p User -p NRestarts"
    said = stage.wait_for(
        lambda: said if "=active" in (said := stage.say(show)) else None, "the firmware", SETTLED_S
    )
    assert "User=railtix" in said
    log = stage.say("journalctl -b -u railtix-pos --no-pager -o cat")
    assert "NRestarts=0" in said, log
    assert stage.run("test -e /etc/railtix/image").code == 0


@pytest.mark.parametrize("path", ["/", "/usr", "/boot", "/opt/railtix", "/root"])
def test_nobody_writes_to_the_root(stage: Stage, path: str) -> None:
    ran = stage.run(f"touch {path}/written-by-a-test")
    assert ran.code
    assert "Read-only file system" in ran.said


def test_the_slot_that_runs_is_mounted_read_only(stage: Stage) -> None:
    assert "ro" in stage.say("findmnt -no OPTIONS /").strip().split(",")


def test_data_grew_to_the_end_of_the_card(stage: Stage) -> None:
    said = stage.say("findmnt -bno FSTYPE,SIZE,OPTIONS /data").split()
    assert said[0] == "ext4"
    assert int(said[1]) > 4 * GIB
    assert {"rw", "noatime"} <= set(said[2].split(","))


def test_flashing_erased_what_a_used_card_held(stage: Stage) -> None:
    assert stage.run(f"test -e /data/{OF_A_FORMER_LIFE}").code


def test_the_log_is_kept_on_data(stage: Stage) -> None:
    stage.say("journalctl --flush --sync")
    assert stage.say("findmnt -no SOURCE -T /var/log/journal").startswith("/dev/")
    assert stage.say("find /var/log/journal -name '*.journal' | head -1").strip()


def test_nobody_can_log_in(stage: Stage) -> None:
    hashes = [line.split(":")[1] for line in stage.say("cat /etc/shadow").splitlines()]
    assert hashes
    assert all(each[:1] in {"*", "!"} for each in hashes)
    assert stage.run("command -v sshd").code
    assert not stage.say("systemctl list-units --type=service --no-legend '*getty*'").strip()


def test_the_hardware_watchdog_is_fed_by_systemd(stage: Stage) -> None:
    said = stage.say("systemctl show -p WatchdogDevice -p RuntimeWatchdogUSec")
    assert "WatchdogDevice=/dev/watchdog" in said
    assert "RuntimeWatchdogUSec=infinity" not in said
    assert "RuntimeWatchdogUSec=0" not in said


def test_nothing_listens_but_on_loopback(stage: Stage) -> None:
    said = stage.say("ss -Hlntu").splitlines()
    outside = [line for line in said if not line.split()[4].startswith(("127.", "[::1]"))]
    # DHCP's client has a raw socket of its own kind; no port of the appliance is open.
    assert [line for line in outside if line.split()[0] == "tcp"] == []


def test_from_outside_every_port_is_closed(machine: Machine) -> None:
    """Each of TCP's, and those of UDP that matter."""
    with Neighbour(machine.lan_in, machine.lan_out) as neighbour:
        assert neighbour.ping(60.0), "or silence would say nothing"
        answers = neighbour.knock(range(1, 65_536), UDP)
    assert answers.open_tcp == set()
    assert answers.refused_tcp == set(), "not even a refusal: the packet is dropped"
    assert answers.answered_udp == set()
    assert answers.unreachable == 0


def test_no_password_and_no_key_of_a_host_is_in_the_image(stage: Stage) -> None:
    found = stage.say("find / -xdev \\( -name 'ssh_host_*' -o -name 'id_*' -path '*/.ssh/*' \\)")
    assert found.strip() == ""
