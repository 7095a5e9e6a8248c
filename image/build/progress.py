"""Tells a person which step runs and how long each took."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter


class Progress:
    """Lines such as `  root file system ... 84.1 s`, coloured on a terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._began_at = perf_counter()

    @contextmanager
    def step(self, title: str) -> Generator[None]:
        began_at = perf_counter()
        if self._is_terminal:
            self._write(f"  {title} {self._dim('...')}")
        else:
            self._write(f"  {title} ...\n")
        try:
            yield
        except BaseException:
            if self._is_terminal:
                self._write(f"\r\033[2K  \033[31m✗\033[0m {title}\n")
            raise
        seconds = perf_counter() - began_at
        if self._is_terminal:
            self._write(f"\r\033[2K  \033[32m✓\033[0m {title} {self._dim(f'{seconds:.1f} s')}\n")
        else:
            self._write(f"  {title}: {seconds:.1f} s\n")

    def kept(self, title: str) -> None:
        """What an earlier build made already."""
        mark = "\033[32m✓\033[0m " if self._is_terminal else ""
        self._write(f"  {mark}{title} {self._dim('(as before)')}\n")

    def say(self, line: str) -> None:
        self._write(f"{line}\n")

    @property
    def seconds(self) -> float:
        return perf_counter() - self._began_at

    def _dim(self, words: str) -> str:
        return f"\033[2m{words}\033[0m" if self._is_terminal else words

    def _write(self, words: str) -> None:
        sys.stdout.write(words)
        sys.stdout.flush()
