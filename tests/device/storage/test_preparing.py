"""The data partition at every start, and when the power goes at any line of one."""

from collections.abc import Callable

import pytest

from device.storage.deciding import FILE_SYSTEM, MADE, NEVER_MADE, Encryption, Refused, Why
from device.storage.preparing import Ready
from tests.device.storage.card import CARD_SECTORS, Card, Container, FileSystem, PowerCutError

ENCRYPTIONS: list[Encryption] = ["none", "serial", "tpm"]


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_the_first_start_grows_and_makes_it_and_no_later_one_does(
    card: Card, encryption: Encryption
) -> None:
    first = card.start(encryption)
    assert isinstance(first, Ready)
    assert first.encryption == encryption
    assert (card.kind, card.sectors) == (MADE, CARD_SECTORS - 16 * 1024)
    card.keep("an offline sale")
    made = card.formats

    for _ in range(3):
        assert card.start(encryption) == first
    assert card.formats == made
    assert card.kept() == ["an offline sale"]


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_a_power_cut_at_any_line_is_gone_on_from_and_never_loses_what_was_kept(
    new_card: Callable[[], Card], encryption: Encryption
) -> None:
    whole = new_card()
    assert isinstance(whole.start(encryption), Ready)
    for cut in range(1, whole.steps + 1):
        card = new_card()
        card.cut_at = cut
        with pytest.raises(PowerCutError):
            card.start(encryption)
        card.cut_at = None
        assert isinstance(card.start(encryption), Ready), cut
        assert card.kind == MADE
        card.keep("an offline sale")
        formats = card.formats

        again = new_card()
        again.kind, again.sectors, again.content = card.kind, card.sectors, card.content
        assert isinstance(again.start(encryption), Ready)
        assert again.kept() == ["an offline sale"]
        assert (card.formats, again.formats) == (formats, 0)


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_two_power_cuts_in_a_row_are_no_worse_than_one(
    new_card: Callable[[], Card], encryption: Encryption
) -> None:
    for cuts in ((3, 5), (9, 2), (14, 14), (20, 7)):
        card = new_card()
        for cut in cuts:
            card.steps, card.cut_at = 0, cut
            with pytest.raises(PowerCutError):
                card.start(encryption)
        card.cut_at = None
        assert isinstance(card.start(encryption), Ready)


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("wanted", ENCRYPTIONS)
def test_what_was_made_once_stays_as_it_is_whatever_is_wanted_later(
    card: Card, encryption: Encryption, wanted: Encryption
) -> None:
    card.start(encryption)
    card.keep("an offline sale")
    later = card.start(wanted)
    assert isinstance(later, Ready)
    assert later.encryption == encryption
    assert card.kept() == ["an offline sale"]
    assert any("that stays" in line for line in card.said) == (encryption != wanted)


def test_what_was_made_and_now_reads_as_nothing_is_not_made_again(card: Card) -> None:
    card.start()
    card.content = None
    assert card.start() == Refused(Why.NOTHING_THERE)
    assert card.formats == 1


def test_a_card_that_cannot_be_read_is_asked_again_and_never_formatted(card: Card) -> None:
    card.unreadable_times = 2
    assert isinstance(card.start(), Ready)

    card.unreadable_times = 100
    outcome = card.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.UNREADABLE
    assert card.formats == 1


def test_a_new_card_that_cannot_be_read_is_not_formatted_either(card: Card) -> None:
    card.unreadable_times = 100
    outcome = card.start()
    assert isinstance(outcome, Refused)
    assert (card.formats, card.kind) == (0, NEVER_MADE)


def test_a_node_that_is_gone_counts_as_unreadable(card: Card) -> None:
    (card.folder / "part4").unlink()
    outcome = card.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.UNREADABLE


@pytest.mark.parametrize("kind", [NEVER_MADE, MADE])
def test_what_somebody_else_made_is_left_alone(card: Card, kind: int) -> None:
    card.kind = kind
    for foreign in ("ntfs", FileSystem("holiday-photos")):
        card.content = foreign
        outcome = card.start()
        assert isinstance(outcome, Refused)
        assert outcome.why == Why.FOREIGN
        assert card.content is foreign
    assert card.formats == 0


def test_one_of_ours_is_taken_up_where_the_table_was_written_anew(card: Card) -> None:
    card.start()
    card.keep("an offline sale")
    card.kind = NEVER_MADE
    assert isinstance(card.start(), Ready)
    assert (card.kind, card.formats, card.kept()) == (MADE, 1, ["an offline sale"])


def test_a_wrong_setting_stops_the_first_start_and_no_later_one(card: Card) -> None:
    wrong = Refused(Why.SETTING, "encryption: yes")
    assert card.start(wrong) == wrong
    assert (card.formats, card.kind, card.sectors) == (0, NEVER_MADE, 16 * 1024)

    card.start("serial")
    assert isinstance(card.start(wrong), Ready)


def test_another_board_does_not_open_it_and_its_own_still_does(card: Card) -> None:
    card.start("serial")
    card.keep("an offline sale")
    own, card.serial = card.serial, "10000000cafecafe"
    assert card.start() == Refused(Why.OTHER_BOARD)
    card.serial = ""
    assert card.start() == Refused(Why.NO_SERIAL)
    card.serial = own
    assert isinstance(card.start(), Ready)
    assert card.kept() == ["an offline sale"]


def test_without_a_serial_or_a_tpm_nothing_is_made_in_the_clear(card: Card) -> None:
    card.serial, card.has_tpm = "", False
    assert card.start("serial") == Refused(Why.NO_SERIAL)
    assert card.formats == 0
    outcome = card.start("tpm")
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.NO_TPM
    assert card.kind == NEVER_MADE
    assert list((card.folder / "run").iterdir()) == [], "the first key is in no file any more"

    card.has_tpm = True
    assert isinstance(card.start("tpm"), Ready)


def test_with_a_tpm_no_other_key_opens_it(card: Card) -> None:
    card.start("tpm")
    assert isinstance(card.content, Container)
    assert card.content.keys == set()
    card.has_tpm = False
    outcome = card.start("tpm")
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.NO_TPM


def test_a_container_that_holds_no_file_system_of_ours_is_not_filled_again(card: Card) -> None:
    card.start("serial")
    assert isinstance(card.content, Container)
    card.content.inside = None
    formats = card.formats
    outcome = card.start("serial")
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.NOTHING_THERE
    assert card.formats == formats


def test_no_key_is_among_what_a_tool_is_told_for_all_to_see(card: Card) -> None:
    card.start("serial")
    assert isinstance(card.content, Container)
    (key,) = card.content.keys
    assert all(key.decode() not in word for argv in card.tools_run for word in argv)
    assert all(key.decode() not in line for line in card.said)


@pytest.mark.parametrize(("damage", "words"), [(1, "power cut"), (4, "damaged")])
def test_damage_is_mended_and_said(card: Card, damage: int, words: str) -> None:
    card.start()
    card.content = FileSystem(FILE_SYSTEM, ["an offline sale"], damage)
    assert isinstance(card.start(), Ready)
    assert any(words in line for line in card.said)


@pytest.mark.parametrize(
    ("preened", "mended", "why"),
    [(8, 0, Why.FAILED), (4, 4, Why.DAMAGED), (4, 8, Why.FAILED)],
)
def test_what_no_mending_makes_sound_is_not_mounted(
    card: Card, preened: int, mended: int, why: Why
) -> None:
    card.start()
    card.content = FileSystem(FILE_SYSTEM, ["an offline sale"], preened, mended)
    outcome = card.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == why
    assert card.kept() == ["an offline sale"]


def test_an_inside_that_cannot_be_read_is_not_filled_again(card: Card) -> None:
    card.start("serial")
    formats = card.formats
    card.inside_is_readable = False
    outcome = card.start("serial")
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.UNREADABLE
    assert card.formats == formats


def test_a_second_try_in_one_start_goes_on_with_what_is_open(card: Card) -> None:
    card.start("serial")
    assert isinstance(card.try_again("serial"), Ready)


def test_a_table_without_our_four_partitions_is_left_alone(card: Card) -> None:
    card.label = "gpt"
    outcome = card.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.FOREIGN
    assert card.formats == 0


def test_a_table_that_is_not_the_images_is_left_alone(card: Card) -> None:
    card.kind = 0x05
    outcome = card.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.FOREIGN
    assert "0x05" in outcome.detail
