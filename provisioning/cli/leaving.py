"""railtix-ops device revoke, decommission, replace: an appliance leaves, and one sees how far."""

import time
from typing import Annotated, Any, Final

import segno
import typer
from rich.markup import escape

from protocol.money import Money
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.speaking import err, out, refuse

WAIT_S: Final = 20.0
POLL_S: Final = 0.5
NOT_YET: Final = 3
"""The exit code where the broker had not let go of it by then; the ledger has in any case."""

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="The appliance's name.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Stay until the broker has let go of it.")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Also while it may hold sales that are not known in the cloud."),
]


def revoke(
    device_id: DeviceId,
    *,
    reason: Annotated[str, typer.Option(help="For the audit log: `lost at the gate`.")],
    yes: Yes = False,
    wait: Wait = True,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Nothing new of this appliance is posted from now on. There is no way back.

    Then its session at the broker is ended and its certificates are refused there; the command
    waits for that and says so. What it may have sold is on the review list.
    """
    cloud = Cloud(url, token_file)
    _ask(cloud, device_id, "Revoke", yes=yes or as_json)
    answer = cloud.post(f"/devices/{device_id}/revoke", {"reason": reason})
    if as_json:
        show_json(answer)
        return
    out.print(f"[bold]{device_id}[/]: revoked. Nothing new of it is posted from now on.")
    _follow(cloud, device_id, wait=wait)


def decommission(
    device_id: DeviceId,
    *,
    force: Force = False,
    reason: Annotated[
        str | None, typer.Option(help="With --force, for the audit log: `its screen is broken`.")
    ] = None,
    yes: Yes = False,
    wait: Wait = True,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Take an appliance out of service. There is no way back.

    Refused while it may hold sales that are not known in the cloud: it says which. By `--force
    --reason` they come onto the review list, and so does what it still sends.
    """
    body = _forced(force=force, reason=reason)
    cloud = Cloud(url, token_file)
    _ask(cloud, device_id, "Decommission", yes=yes or as_json)
    answer = cloud.post(f"/devices/{device_id}/decommission", body)
    if as_json:
        show_json(answer)
        return
    out.print(f"[bold]{device_id}[/]: decommissioned. Nothing new of it is posted from now on.")
    _follow(cloud, device_id, wait=wait)


def replace(
    device_id: DeviceId,
    *,
    lost: Annotated[
        bool, typer.Option("--lost", help="The old one is gone: revoke it now. With --reason.")
    ] = False,
    force: Force = False,
    reason: Annotated[str | None, typer.Option(help="For the audit log.")] = None,
    serial: Annotated[
        str | None, typer.Option(help="Only the appliance with this serial number may follow it.")
    ] = None,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a code for another appliance at the same stall.

    The old one sells on until the new one has enrolled, and is decommissioned then. Refused while
    the old one may hold sales that are not known in the cloud, but for `--force`.
    """
    if lost and force:
        refuse("--lost revokes the old one at once; there is nothing left to force")
    if lost and reason is None:
        refuse("--lost needs a --reason, for the audit log")
    body: Document = {"lost_reason": reason} if lost else _forced(force=force, reason=reason)
    if serial is not None:
        body["serial"] = serial
    cloud = Cloud(url, token_file)
    if lost:
        _ask(cloud, device_id, "Revoke and replace", yes=yes or as_json)
    made = cloud.post(f"/devices/{device_id}/replace", body)
    if as_json:
        show_json(made)
        return
    _show_code(made)
    if lost:
        out.print(f"[bold]{device_id}[/]: revoked. Nothing new of it is posted from now on.")
        _follow(cloud, device_id, wait=False)
    else:
        out.print(f"{device_id} sells on until {made['device_id']} has enrolled.")


def _show_code(made: Document) -> None:
    """The claim as a QR that an appliance's camera reads from this terminal."""
    code = segno.make_qr(made["qr_text"], error="m")
    code.terminal(border=4, compact=True)
    until = made["expires_at"][11:16]
    out.print(
        f"Show this to the new appliance until {until} UTC: it becomes {made['device_id']} at "
        f"{made['stall_id']}. The code works once."
    )


def _forced(*, force: bool, reason: str | None) -> Document:
    if force != (reason is not None):
        refuse("--force and --reason go together")
    return {"force_reason": reason} if force else {}


def _ask(cloud: Cloud, device_id: str, deed: str, *, yes: bool) -> None:
    """Show whom it would hit, and end the command unless somebody says yes."""
    if yes:
        return
    device = cloud.get(f"/devices/{device_id}")
    where = f"{device['stall_id']} at {device['event_id']}" if device["stall_id"] else "no stall"
    out.print(f"{device_id}: {device['status']}, {where}")
    if device["queue"]:
        out.print(f"  [yellow]{device['queue']} messages wait in it[/]")
    if not typer.confirm(f"{deed} it? There is no way back."):
        refuse("nothing was done")


def _follow(cloud: Cloud, device_id: str, *, wait: bool) -> None:
    """Say what has come of it, and stay until the broker has let go of it, or for 20 s."""
    deadline = time.monotonic() + (WAIT_S if wait else 0.0)  # noqa: TID251  # a command is an edge
    told: set[str] = set()
    while True:
        leaving = cloud.get(f"/devices/{device_id}/leaving")
        done = _done(leaving)
        for sentence in done:
            if sentence not in told:
                out.print(f"  {sentence}")
        told |= set(done)
        if len(done) == len(_STEPS) or time.monotonic() >= deadline:  # noqa: TID251
            break
        time.sleep(POLL_S)
    _tell_reviews(leaving["reviews"])
    missing = [not_yet for name, (_, not_yet) in _STEPS.items() if not leaving[name]]
    if not missing:
        return
    for sentence in missing:
        err.print(f"[yellow]Not yet:[/] {sentence}")
    err.print(
        "  The warden does it as soon as it can, and its log says what keeps it. What the "
        "appliance asks meanwhile is refused."
    )
    if wait:
        raise typer.Exit(NOT_YET)


_STEPS: Final = {
    "crl_has_it": (
        "Its certificates are on the revocation list that the broker was handed.",
        "the broker has no list yet with its certificates: it can still connect.",
    ),
    "session_ended_at": (
        "Its session at the broker has ended.",
        "its session at the broker goes on, if it had one.",
    ),
}


def _done(leaving: Document) -> list[str]:
    return [done for name, (done, _) in _STEPS.items() if leaving[name]]


def _tell_reviews(reviews: list[Any]) -> None:
    if not reviews:
        out.print("  Nothing of it is on the review list.")
        return
    out.print(f"  [yellow]{len(reviews)} of its sales are on the review list:[/]")
    for each in reviews:
        cents, currency = each["amount_in_cents"], each["currency"]
        amount = "?" if cents is None else str(Money(cents, currency))
        out.print(f"    {amount}, {escape(each['reason'])}, {each['review_id']}")
