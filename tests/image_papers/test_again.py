from pathlib import Path

import pytest

from image.papers import again
from image.papers.again import NotComparableError, first_build


def test_a_build_of_what_nobody_committed_is_not_built_again(tmp_path: Path) -> None:
    (tmp_path / "LATEST").write_text("railtix-debian-0.1.0+202606202147.dirty\n")
    with pytest.raises(NotComparableError, match="commit it"):
        first_build(tmp_path)


def test_without_a_first_build_there_is_no_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(again.FOLDER_VARIABLE, str(tmp_path / "image"))
    assert again.main([]) == 2
    assert "make image" in capsys.readouterr().err
    assert not (tmp_path / "image-again").exists()
