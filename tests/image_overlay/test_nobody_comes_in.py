"""The packet filter, loaded by nft into a network of its own, beside a neighbour who tries."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "image" / "overlay" / "etc" / "nftables.conf"

COMES_IN = {
    *("from itself, IPv4", "from itself, IPv6", "to the cloud, IPv4", "to the cloud, IPv6"),
    "from a DHCP server",
}


def tried(rules: Path) -> dict[str, bool]:
    alone = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    done = subprocess.run(
        [*alone, sys.executable, str(HERE / "neighbours.py"), str(rules)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_the_appliance_did_not_begin_comes_no_further(tmp_path: Path) -> None:
    through = tried(RULES)
    assert {name for name, arrived in through.items() if arrived} == COMES_IN
    assert len(through) > len(COMES_IN)

    nothing = tmp_path / "nothing.conf"
    nothing.write_text("flush ruleset\n")
    assert all(tried(nothing).values()), "else it was not the filter that kept them out"
