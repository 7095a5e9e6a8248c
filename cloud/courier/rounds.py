"""Which tasks a courier has, from the settings: letters, payments, orders, cash-outs, reviews."""

import threading
from collections.abc import Callable
from datetime import datetime

from cloud.courier.courier import Courier, Task
from cloud.courier.mail_files import MailFiles
from cloud.courier.post_office import PostOffice
from cloud.courier.send_letters import send_letters
from cloud.courier.smtp import SmtpPostOffice
from cloud.payments.provider import CardProvider
from cloud.settings import Settings
from cloud.store.database import Database


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
    tasks = [_mail(settings, database, clock, stopping)]
    return Courier(tasks, settings.courier.interval_s, stopping)


def open_post_office(settings: Settings) -> PostOffice:
    match settings.mail.kind:
        case "files":
            return MailFiles(settings.mail_folder)
        case "smtp":
            return SmtpPostOffice(settings.mail)


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
