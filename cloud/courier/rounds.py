"""Which tasks a courier has, from the settings: letters, payments, orders, cash-outs, reviews."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from cloud.courier.courier import Courier, Task
from cloud.courier.mail_files import MailFiles
from cloud.courier.post_office import PostOffice
from cloud.courier.send_letters import send_letters
from cloud.courier.smtp import SmtpPostOffice
from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.cards.poll_payments import poll_payments
from cloud.operations.cash_outs.cash_out_advance import advance_cash_outs
from cloud.operations.desk.review_unsettled import review_unsettled
from cloud.operations.orders.close_orders import close_expired_orders
from cloud.operations.people.tries import forget_old_secrets
from cloud.payments.provider import CardProvider
from cloud.settings import Settings
from cloud.store.database import Database

UNSETTLED_EVERY_S: Final = 3600.0
"""It looks at every key there is, for what is a day old."""
SECRETS_EVERY_S: Final = 3600.0
"""Codes, links and counts of tries, a day after they can matter."""


def make_courier(
    settings: Settings,
    database: Database,
    provider: CardProvider | None,
    clock: Callable[[], datetime],
) -> Courier:
    """A courier with all that there is to do; without a card provider what needs none.

    Raises OSError where the mail's authorities cannot be read.
    """
    stopping = threading.Event()
    tasks = [
        _mail(settings, database, clock, stopping),
        Task("cash-outs", lambda: advance_cash_outs(database, clock())),
        Task("unsettled", lambda: review_unsettled(database, clock()), UNSETTLED_EVERY_S),
        Task("old-secrets", lambda: forget_old_secrets(database, clock()), SECRETS_EVERY_S),
    ]
    if provider is not None:
        tasks += [_with_provider(each, database, provider, clock) for each in _AT_THE_PROVIDER]
    return Courier(tasks, settings.courier.interval_s, stopping)


def open_post_office(settings: Settings) -> PostOffice:
    match settings.mail.kind:
        case "files":
            return MailFiles(settings.mail_folder)
        case "smtp":
            return SmtpPostOffice(settings.mail)


_ProviderTask = Callable[[Database, CardProvider, datetime], int]
_AT_THE_PROVIDER: Final[Sequence[tuple[str, _ProviderTask]]] = (
    ("payments", poll_payments),
    ("card-refunds", make_card_refunds),
    ("orders", close_expired_orders),
)


def _with_provider(
    named: tuple[str, _ProviderTask],
    database: Database,
    provider: CardProvider,
    clock: Callable[[], datetime],
) -> Task:
    name, task = named
    return Task(name, lambda: task(database, provider, clock()))


def _mail(
    settings: Settings,
    database: Database,
    clock: Callable[[], datetime],
    stopping: threading.Event,
) -> Task:
    post_office = open_post_office(settings)

    def run() -> int:
        return send_letters(
            database,
            post_office,
            sender=settings.mail.sender,
            clock=clock,
            is_stopping=stopping.is_set,
        )

    return Task("letters", run)
