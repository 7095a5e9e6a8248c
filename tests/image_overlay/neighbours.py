"""An appliance with its packet filter and a neighbour on the same cable, each a network of its own.

`unshare --net python neighbours.py RULES` prints, as JSON, what of the neighbour's tries arrived.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ADDRESSES = {4: ("10.9.9.1", "10.9.9.2"), 6: ("fd09::1", "fd09::2")}
PATIENCE_S = 30.0
"""For what must arrive."""
SILENCE_S = 1.0
"""For what must not: it would be there within a millisecond."""


def say(what: object) -> None:
    print(what, flush=True)  # noqa: T201 -- whoever started this reads it


def command(line: str) -> None:
    subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)


def opened(address: str, kind: socket.SocketKind, port: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def connects(address: str, port: int, patience_s: float) -> bool:
    try:
        socket.create_connection((address, port), timeout=patience_s).close()
    except OSError:
        return False
    return True


def neighbour() -> None:
    """Does what it is told, a line at a time, and says how it went."""
    say("here")
    listeners: list[socket.socket] = []
    for line in sys.stdin:
        match line.split():
            case ["run", *words]:
                command(" ".join(words))
                say("done")
            case ["connect", address, port]:
                say(connects(address, int(port), SILENCE_S))
            case ["send", source, source_port, address, port]:
                with closing(opened(source, socket.SOCK_DGRAM, int(source_port))) as sending:
                    sending.sendto(b"x", (address, int(port)))
                say("sent")
            case ["listen", address]:
                listeners.append(opened(address, socket.SOCK_STREAM))
                say(listeners[-1].getsockname()[1])
            case _:
                raise AssertionError(line)


def arrives(listening: socket.socket, patience_s: float) -> bool:
    listening.settimeout(patience_s)
    try:
        listening.recv(1)
    except TimeoutError:
        return False
    return True


def tries(ask: Callable[[str], str]) -> dict[str, bool]:
    """Each try by its name, and whether it came through."""
    found: dict[str, bool] = {}
    for family, (own, other) in ADDRESSES.items():
        # First: it takes as long as the cable takes to come up.
        port = int(ask(f"listen {other}"))
        found[f"to the cloud, IPv{family}"] = connects(other, port, PATIENCE_S)
        with closing(opened(own, socket.SOCK_STREAM)) as tcp:
            port = tcp.getsockname()[1]
            found[f"to a listener, IPv{family}"] = ask(f"connect {own} {port}") == "True"
            found[f"from itself, IPv{family}"] = connects(own, port, PATIENCE_S)
        with closing(opened(own, socket.SOCK_DGRAM)) as udp:
            ask(f"send {other} 5353 {own} {udp.getsockname()[1]}")
            found[f"a datagram, IPv{family}"] = arrives(udp, SILENCE_S)
    with closing(opened("10.9.9.1", socket.SOCK_DGRAM, 68)) as dhcp:
        ask("send 10.9.9.2 68 10.9.9.1 68")
        found["from no DHCP server"] = arrives(dhcp, SILENCE_S)
        ask("send 10.9.9.2 67 10.9.9.1 68")
        found["from a DHCP server"] = arrives(dhcp, PATIENCE_S)
    return found


def main(rules: Path) -> None:
    argv = ["unshare", "--net", sys.executable, __file__]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        replies, questions = started.stdout, started.stdin

        def ask(line: str) -> str:
            print(line, file=questions, flush=True)
            return replies.readline().strip()

        assert replies.readline() == "here\n"
        command("ip link add inside type veth peer name outside")
        command(f"ip link set outside netns {started.pid}")
        for own, other in ADDRESSES.values():
            flag, bits = ("nodad", 64) if ":" in own else ("", 24)
            command(f"ip addr add {own}/{bits} dev inside {flag}")
            ask(f"run ip addr add {other}/{bits} dev outside {flag}")
        command("ip link set lo up")
        command("ip link set inside up")
        ask("run ip link set outside up")
        command(f"nft -f {rules}")
        say(json.dumps(tries(ask)))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:
        neighbour()
