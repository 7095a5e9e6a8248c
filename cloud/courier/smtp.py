"""Letters over SMTP (RFC 5321): each answer has its deadline, a password needs TLS."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import parseaddr

from cloud.courier.post_office import (
    LetterDeferredError,
    LetterRefusedError,
    PostOfficeAwayError,
)
from cloud.settings import MailSettings


class SmtpPostOffice:
    """One connection at a time, kept from letter to letter; for one thread."""

    def __init__(self, settings: MailSettings) -> None:
        """Raises OSError where `authorities` cannot be read."""
        self._settings = settings
        self._sender = parseaddr(settings.sender)[1]
        # Else smtplib asks the DNS for this machine's name, and tells it.
        self._own_name = self._sender.partition("@")[2]
        trusted = None if settings.authorities is None else str(settings.authorities)
        self._tls = ssl.create_default_context(cafile=trusted)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._connection: smtplib.SMTP | None = None

    def hand_in(self, message: EmailMessage, to_address: str) -> None:
        connection = self._connected()
        try:
            connection.send_message(message, self._sender, [to_address])
        except smtplib.SMTPRecipientsRefused as error:
            [(code, _)] = error.recipients.values()
            raise _judged(code, "recipient") from None
        except smtplib.SMTPDataError as error:
            raise _judged(error.smtp_code, "letter") from None
        except smtplib.SMTPNotSupportedError:
            # An address beyond ASCII, and a server that cannot carry it (RFC 6531).
            raise LetterRefusedError("address beyond ASCII") from None
        except smtplib.SMTPSenderRefused as error:
            # Ours, not the letter's: who we say we are, or that we did not sign in.
            self.leave()
            raise PostOfficeAwayError(f"{error.smtp_code} sender") from None
        except (smtplib.SMTPException, OSError) as error:
            self.leave()
            raise PostOfficeAwayError(f"sending: {type(error).__name__}") from None

    def leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.quit()
        except (smtplib.SMTPException, OSError):
            connection.close()

    def _connected(self) -> smtplib.SMTP:
        if self._connection is None:
            try:
                self._connection = self._connect()
            except (smtplib.SMTPException, OSError) as error:
                raise PostOfficeAwayError(f"connecting: {type(error).__name__}") from None
        return self._connection

    def _connect(self) -> smtplib.SMTP:
        named = self._settings
        if named.security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                named.host,
                named.port,
                self._own_name,
                timeout=named.deadline_s,
                context=self._tls,
            )
        else:
            connection = smtplib.SMTP(
                named.host, named.port, self._own_name, timeout=named.deadline_s
            )
        try:
            if named.security == "starttls":
                connection.starttls(context=self._tls)
            if named.user is not None and named.password is not None:
                connection.login(named.user, named.password.get_secret_value())
        except BaseException:
            connection.close()
            raise
        return connection


def _judged(code: int, what: str) -> Exception:
    """RFC 5321 section 4.2.1: 5yz is for good, 4yz for now (421: the server is closing)."""
    said = f"{code} {what}"
    return LetterRefusedError(said) if 500 <= code < 600 else LetterDeferredError(said)
