"""Questions that many ask at once, answered as one: a thread and a query for all who wait."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from starlette.concurrency import run_in_threadpool

BATCH_MAX: Final = 100

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    """Of one event loop. Whoever asks while nobody waits is answered at once; whoever asks
    meanwhile is answered with all others who did.

    A fault is everybody's in the batch: no question may be able to cause one.
    """

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Answer]]) -> None:
        """`answer` runs in a thread and answers the questions in their order."""
        self._answer: Final = answer
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, future))
        if self._rounds is None:
            self._rounds = loop.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            try:
                answers = await run_in_threadpool(self._answer, [each for each, _ in batch])
            except Exception as fault:  # noqa: BLE001  # each of those who wait raises it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(fault)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        self._rounds = None
