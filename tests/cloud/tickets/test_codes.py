import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.tickets.codes import TicketClaims, open_ticket, sign_ticket
from protocol.ids import KeyId
from protocol.signing import Profile, PublicKey, SignatureRefusal, sign

KEY = ec.generate_private_key(ec.SECP256R1())
KID = KeyId("tickets1")
CLAIMS = TicketClaims(1, "A" * 22, "summer-fair", "adult", "B" * 22)


def _find(kid: str) -> PublicKey | None:
    return KEY.public_key() if kid == KID else None


def test_a_code_says_what_was_signed() -> None:
    code = sign_ticket(CLAIMS, KEY, KID)
    assert open_ticket(code.encode(), _find) == CLAIMS


def test_a_code_is_short_enough_for_a_phones_qr() -> None:
    # 40 characters is the longest name of an event and of a kind.
    longest = TicketClaims(1, "A" * 22, "e" * 40, "t" * 40, "B" * 22)
    assert len(sign_ticket(longest, KEY, KID)) <= 420


def test_a_code_signed_for_another_purpose_or_by_another_is_refused() -> None:
    said = msgspec.json.encode(CLAIMS)
    badge = sign(Profile.BADGE, said, KEY, KID)
    assert open_ticket(badge.encode(), _find) is SignatureRefusal.WRONG_TYPE
    others = ec.generate_private_key(ec.SECP256R1())
    forged = sign_ticket(CLAIMS, others, KID)
    assert open_ticket(forged.encode(), _find) is SignatureRefusal.BAD_SIGNATURE
    unknown = sign_ticket(CLAIMS, KEY, "tickets2")
    assert open_ticket(unknown.encode(), _find) is SignatureRefusal.UNKNOWN_KEY


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"v":1}',
        b'{"v":2,"jti":"AAAAAAAAAAAAAAAAAAAAAA","evt":"e","cat":"a","ord":"AAAAAAAAAAAAAAAAAAAAAA"}',
        b'{"v":1,"jti":"short","evt":"e","cat":"a","ord":"AAAAAAAAAAAAAAAAAAAAAA"}',
    ],
)
def test_a_signed_text_that_is_no_ticket_is_refused(said: bytes) -> None:
    code = sign(Profile.TICKET, said, KEY, KID)
    assert open_ticket(code.encode(), _find) is SignatureRefusal.NOT_A_TOKEN
