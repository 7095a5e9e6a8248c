from cryptography.hazmat.primitives.asymmetric import ec

from protocol.ids import DeviceId, IdempotencyKey
from protocol.sealing import open_pin, seal_pin

CLOUD = ec.generate_private_key(ec.SECP256R1())
DEVICE, KEY = DeviceId("bar-1"), IdempotencyKey("k" * 22)


def test_a_pin_is_opened_by_the_cloud_for_this_sign_in_alone() -> None:
    sealed = seal_pin("4711", CLOUD.public_key(), DEVICE, KEY)
    assert open_pin(sealed, CLOUD, DEVICE, KEY) == "4711"
    assert open_pin(sealed, CLOUD, DeviceId("bar-2"), KEY) is None
    assert open_pin(sealed, CLOUD, DEVICE, IdempotencyKey("m" * 22)) is None
    assert open_pin(sealed, ec.generate_private_key(ec.SECP256R1()), DEVICE, KEY) is None


def test_two_seals_of_one_pin_differ() -> None:
    seals = {seal_pin("4711", CLOUD.public_key(), DEVICE, KEY) for _ in range(3)}
    assert len(seals) == 3


def test_rubbish_and_what_is_no_pin_open_to_nothing() -> None:
    assert open_pin("", CLOUD, DEVICE, KEY) is None
    assert open_pin("not base64!", CLOUD, DEVICE, KEY) is None
    assert open_pin("A" * 200, CLOUD, DEVICE, KEY) is None
    sealed = seal_pin("letters", CLOUD.public_key(), DEVICE, KEY)
    assert open_pin(sealed, CLOUD, DEVICE, KEY) is None
