"""What becomes of a partition: each type in the table with each thing that may be on it."""

import pytest

from device.storage.deciding import (
    CONTAINER,
    FILE_SYSTEM,
    MADE,
    MAKING,
    NEVER_MADE,
    Blank,
    Content,
    Decision,
    Ext4,
    Luks,
    Make,
    NeedsMending,
    Open,
    Other,
    Refused,
    Sound,
    Unreadable,
    Why,
    decide,
    has_room,
    judge_check,
)


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        (NEVER_MADE, Blank(), Make()),
        (NEVER_MADE, Ext4(MAKING), Make()),
        (NEVER_MADE, Luks(MAKING, has_tpm=False), Make()),
        (NEVER_MADE, Ext4(FILE_SYSTEM), Open("none", mark_made=True)),
        (NEVER_MADE, Luks(CONTAINER, has_tpm=True), Open("tpm", mark_made=True)),
        (MADE, Ext4(FILE_SYSTEM), Open("none", mark_made=False)),
        (MADE, Luks(CONTAINER, has_tpm=False), Open("serial", mark_made=False)),
    ],
)
def test_ours_is_opened_and_only_what_never_was_in_use_is_made(
    kind: int, content: Content, expected: Decision
) -> None:
    assert decide(kind, content) == expected


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        (MADE, Blank(), Why.NOTHING_THERE),
        (MADE, Unreadable("I/O error"), Why.UNREADABLE),
        (NEVER_MADE, Unreadable("I/O error"), Why.UNREADABLE),
        (MADE, Ext4(MAKING), Why.FOREIGN),
        (MADE, Luks(MAKING, has_tpm=True), Why.FOREIGN),
        (MADE, Ext4("photos"), Why.FOREIGN),
        (NEVER_MADE, Ext4(""), Why.FOREIGN),
        (NEVER_MADE, Other("ntfs"), Why.FOREIGN),
        (0x0C, Blank(), Why.FOREIGN),
        (0x05, Ext4(FILE_SYSTEM), Why.FOREIGN),
    ],
)
def test_everything_else_is_refused_with_its_reason(kind: int, content: Content, why: Why) -> None:
    decision = decide(kind, content)
    assert isinstance(decision, Refused)
    assert decision.why == why


def test_e2fscks_exit_codes_mean_what_its_manual_says() -> None:
    assert judge_check(0, "clean") == Sound(mended=False)
    assert judge_check(1, "recovering journal") == Sound(mended=True)
    # "Reboot needed" is meant for a root that is in use; this one is not mounted yet.
    assert judge_check(3, "") == Sound(mended=True)
    assert judge_check(4, "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.") == NeedsMending()
    for code in (8, 16, 32, 128, 12, 127):
        assert judge_check(code, "first\n\nlast\n") == Refused(Why.FAILED, "last")
    assert judge_check(8, "") == Refused(Why.FAILED)


@pytest.mark.parametrize(
    "said",
    [
        "Error reading block 3 (Attempt to read block from filesystem resulted in short read).",
        "e2fsck: Input/output error while trying to open /dev/mmcblk0p4",
    ],
)
def test_what_cannot_be_read_is_not_mended_by_zeros(said: str) -> None:
    for code in (4, 8, 12):
        assert judge_check(code, said) == Refused(Why.UNREADABLE, said)


def test_a_few_sectors_behind_it_are_not_worth_a_new_table() -> None:
    mib = 2048
    assert has_room(1000 * mib, start=100 * mib, sectors=8 * mib)
    assert has_room(124 * mib, start=100 * mib, sectors=8 * mib)
    assert not has_room(123 * mib, start=100 * mib, sectors=8 * mib)
    assert not has_room(50 * mib, start=100 * mib, sectors=8 * mib)
