import asyncio
import threading
from collections.abc import Sequence

import pytest

from cloud.api.together import BATCH_MAX, Together


class Counter:
    """Answers numbers with their doubles, batch by batch, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.was_asked, self.may_answer = threading.Event(), threading.Event()
        self.fault: Exception | None = None

    def answer(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.was_asked.set()
        assert self.may_answer.wait(10), "nobody let it answer"
        if self.fault is not None:
            raise self.fault
        return [2 * each for each in numbers]


@pytest.fixture
def counter() -> Counter:
    return Counter()


async def _wait_for_batch(counter: Counter) -> None:
    assert await asyncio.to_thread(counter.was_asked.wait, 10), "nobody asked"


def test_whoever_asks_meanwhile_is_answered_together(counter: Counter) -> None:
    async def ask() -> list[int]:
        together = Together(counter.answer)
        first = asyncio.create_task(together.ask(1))
        await _wait_for_batch(counter)
        others = [asyncio.create_task(together.ask(number)) for number in (2, 3, 2)]
        await asyncio.sleep(0)
        counter.may_answer.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(ask()) == [2, 4, 6, 4]
    assert counter.batches == [[1], [2, 3, 2]]


def test_a_batch_has_a_size(counter: Counter) -> None:
    counter.may_answer.set()

    async def ask() -> list[int]:
        together = Together(counter.answer)
        return await asyncio.gather(*(together.ask(number) for number in range(BATCH_MAX + 1)))

    assert asyncio.run(ask()) == [2 * number for number in range(BATCH_MAX + 1)]
    assert [len(batch) for batch in counter.batches] == [BATCH_MAX, 1]


def test_a_fault_is_told_to_each_of_its_batch_and_to_nobody_after_it(counter: Counter) -> None:
    counter.may_answer.set()
    counter.fault = OSError("the database is gone")

    async def ask() -> int:
        together = Together(counter.answer)
        told = await asyncio.gather(together.ask(1), together.ask(2), return_exceptions=True)
        assert told == [counter.fault, counter.fault]
        counter.fault = None
        return await together.ask(3)

    assert asyncio.run(ask()) == 6


def test_whoever_gives_up_takes_nobody_along(counter: Counter) -> None:
    async def ask() -> int:
        together = Together(counter.answer)
        first = asyncio.create_task(together.ask(1))
        second = asyncio.create_task(together.ask(2))
        await _wait_for_batch(counter)
        first.cancel()
        await asyncio.sleep(0)
        counter.may_answer.set()
        return await second

    assert asyncio.run(ask()) == 4
