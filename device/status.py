"""What an appliance's files say about it, in lines for a person; reads only."""

from datetime import UTC, datetime

from device.chain import Chain
from device.credentials import CredentialsError
from device.credentials import load as load_credentials
from device.journal import JournalFault, look_at
from device.kept_checkpoint import KeptCheckpoint
from device.notary import Notary
from device.settings import Settings
from protocol.policy import PolicyRefusal


def lines_of(settings: Settings) -> tuple[list[str], bool]:
    """The lines, and whether the identity and the journal could be read."""
    try:
        credentials = load_credentials(settings.state.path)
    except CredentialsError as error:
        return [f"appliance    no identity: {error}"], False
    until = credentials.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"appliance    {credentials.device_id}, certificate valid until {until}",
        f"broker       {settings.broker.host}:{settings.broker.port}",
    ]
    lines += _checkpoint_lines(settings)
    try:
        chain = look_at(settings.state.path)
    except JournalFault as fault:
        return [*lines, f"journal      cannot be read: {fault}"], False
    if chain is None:
        return [*lines, "journal      none yet"], True
    return [*lines, *_journal_lines(chain), *_policy_lines(chain, Notary(credentials))], True


def _checkpoint_lines(settings: Settings) -> list[str]:
    try:
        kept = KeptCheckpoint(settings.state.path).read()
    except OSError as error:
        return [f"checkpoint   cannot be read: {error.strerror}"]
    if kept is None:
        return ["checkpoint   none yet"]
    at = datetime.fromtimestamp(kept.at_ms / 1000, UTC)
    return [f"checkpoint   epoch {kept.epoch}, {kept.size} leaves, {at:%Y-%m-%d %H:%M:%S} UTC"]


def _journal_lines(chain: Chain) -> list[str]:
    standing = chain.standing
    cancels = sum(each.is_cancelled for each in standing.sales)
    unshown = sum(each.approval is not None and not each.is_cancelled for each in standing.sales)
    undecided = len(standing.sales) - cancels - unshown
    position = chain.position
    waiting = (
        f"{undecided} undecided, {unshown} approved and perhaps not shown, "
        f"{cancels} cancels and {len(standing.sign_outs)} sign-outs unanswered"
    )
    return [
        f"journal      {chain.last} entries, settled below {position.settled_below}",
        f"epoch        {chain.epoch}",
        f"open         {waiting}",
    ]


def _policy_lines(chain: Chain, notary: Notary) -> list[str]:
    taken, began = chain.standing.policy, chain.standing.session
    if taken is None:
        return ["policy       none yet"]
    policy = notary.open_policy(taken.token.encode(), 0)
    if isinstance(policy, PolicyRefusal):
        return [f"policy       version {taken.version}, no longer believed: {policy.value}"]
    signed_in = "nobody" if began is None else began.session.initials
    return [
        f"policy       version {policy.version}: {policy.stall_name}, {policy.event_name}",
        f"signed in    {signed_in}",
    ]
