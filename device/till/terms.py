"""The terms the till sells on: the policy in force, and what it takes to apply it."""

from dataclasses import dataclass, field
from datetime import tzinfo

from protocol.policy import Policy, find
from protocol.signing import KeyFinder


@dataclass(frozen=True)
class Terms:
    """The policy in force; its keys are parsed once, because a parse costs more than a look-up."""

    policy: Policy
    zone: tzinfo
    find_wallet_key: KeyFinder = field(repr=False, compare=False)
    find_badge_key: KeyFinder = field(repr=False, compare=False)


def terms_of(policy: Policy, zone: tzinfo) -> Terms:
    return Terms(policy, zone, find(policy.wallet_keys), find(policy.badge_keys))
