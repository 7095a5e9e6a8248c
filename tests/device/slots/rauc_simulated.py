"""rauc 1.13 as far as railtix-slots uses it: the same arguments, JSON, words and exit codes.

State is a JSON file, named by RAUC_SIMULATED. Bundles are JSON: by whom, for whom, which version.
The wording is that of the real one, which was shown the same kinds of bundles.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PATH = Path(os.environ["RAUC_SIMULATED"])
State = dict[str, Any]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    state = json.loads(PATH.read_text())
    words = [each for each in sys.argv[1:] if not each.startswith("--")]
    state["asked"].append(sys.argv[1:])
    save(state)
    mood = state["moods"].get(words[0] if words[0] != "status" or len(words) == 1 else words[1])
    if mood == "hang":
        time.sleep(600)
    if mood == "die":
        os.kill(os.getpid(), 9)
    if mood == "rubbish":
        say("{]")
        return 0
    if mood is not None:
        complain(mood)
        return 1
    if words == ["status"]:
        say(json.dumps(status(state)))
        return 0
    if words[:2] == ["status", "mark-good"]:
        state["good"].append(state["booted"])
        state["left"][state["booted"]] = 3
        save(state)
        say(f"rauc status: marked slot {slot(state['booted'])} as good")
        return 0
    if words[:2] == ["status", "mark-active"]:
        state["order"] = [state["booted"], *(set(state["order"]) - {state["booted"]})]
        state["left"][state["booted"]] = 3
        save(state)
        say(f"rauc status: activated slot {slot(state['booted'])}")
        return 0
    if words[0] == "info":
        return info(words[1])
    if words[0] == "install":
        return install(state, words[1])
    return 1


def status(state: State) -> State:
    slots: list[State] = []
    for name in "BA":
        whole = state["slots"][name]
        said: State = {"bundle": {"compatible": None}}
        if whole is not None:
            said = {
                "bundle": {
                    "compatible": whole["compatible"],
                    "version": whole["version"],
                    "description": None,
                    "build": None,
                    "hash": "0",
                },
                "checksum": {"sha256": "0", "size": 1},
                "installed": {"transaction": "t", "timestamp": "2026-11-23T02:00:00Z", "count": 1},
                "status": "ok",
            }
        slots.append(
            {
                slot(name): {
                    "class": "rootfs",
                    "device": f"/dev/{name}",
                    "type": "ext4",
                    "bootname": name,
                    "state": "booted" if name == state["booted"] else "inactive",
                    "parent": None,
                    "mountpoint": None,
                    "boot_status": "good" if state["left"][name] else "bad",
                    "slot_status": said,
                }
            }
        )
    order = [each for each in state["order"] if state["left"][each]]
    return {
        "compatible": state["compatible"],
        "variant": "",
        "booted": state["booted"],
        "boot_primary": slot(order[0]) if order else None,
        "slots": slots,
    }


def info(path: str) -> int:
    complain("rauc-Message: Reading bundle")
    bundle = read(path)
    if bundle is None:
        return 1
    say(
        json.dumps(
            {
                "compatible": bundle["compatible"],
                "version": bundle["version"],
                "description": None,
                "build": None,
                "format": "plain",
                "hooks": [],
                "hash": "0",
                "images": [],
            }
        )
    )
    return 0


def read(path: str) -> State | None:
    try:
        bundle = json.loads(Path(path).read_bytes())
    except OSError:
        complain(f"No such file: {path}")
        return None
    except ValueError:
        complain("Invalid bundle format: Signature size (72340172838076673) exceeds bundle size")
        return None
    if bundle["signed_by"] == "us, and then a bit was turned":
        complain("signature verification failed: error:1700009E:CMS routines::verification failure")
        return None
    if bundle["signed_by"] != "us":
        complain("signature verification failed: Verify error: self-signed certificate")
        return None
    return bundle


def install(state: State, path: str) -> int:
    bundle = read(path)
    if bundle is None:
        return 1
    other = "B" if state["booted"] == "A" else "A"
    state["slots"][other] = None
    state["left"][other] = 0
    save(state)
    for percent in (0, 20, 40):
        say(f"{percent:3d}% Installing")
    while PATH.with_name("rauc.json.hold").exists():
        time.sleep(0.01)
    if bundle.get("payload") == "bent":
        say("LastError: Failed updating slot rootfs.1: failed writing: Input/output error")
        say(f"Installing `{path}` failed")
        return 1
    say("100% Installing done.")
    state["slots"][other] = {"compatible": bundle["compatible"], "version": bundle["version"]}
    state["left"][other] = 3
    state["order"] = [other, state["booted"]]
    save(state)
    say(f"Installing `{path}` succeeded")
    return 0


def slot(name: str) -> str:
    return {"A": "rootfs.0", "B": "rootfs.1"}[name]


def save(state: State) -> None:
    draft = PATH.with_name(f"rauc.json.{os.getpid()}")
    draft.write_text(json.dumps(state))
    draft.replace(PATH)


sys.exit(main())
