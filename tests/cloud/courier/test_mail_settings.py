from pathlib import Path

import pytest

from cloud.settings import SettingsError, read_settings


def _file(folder: Path, text: str) -> Path:
    path = folder / "cloud.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[mail]\nkind = 'pigeon'", "mail.kind"),
        ("[mail]\nuser = 'u'", "mail: .*user and password"),
        ("[mail]\npassword = 'hunter2'", "mail: .*user and password"),
        (
            "[mail]\nsecurity = 'none'\nuser = 'u'\npassword = 'hunter2'",
            "mail: .*starttls or tls",
        ),
        ("[mail]\nsender = 'nobody'", "mail: .*sender"),
        ("[mail]\nsender = 'A <a@b.example>, c@d.example'", "mail: .*sender"),
        ('[mail]\nsender = "A <a@b.example>\\nBcc: c@d.example"', "mail: .*sender"),
        ("[mail]\nsender = 'Bühne <a@b.example>'", "mail: .*sender"),
        ("[mail]\ndeadline_s = 0", "mail.deadline_s"),
        ("[courier]\ninterval_s = 0", "courier.interval_s"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_told(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        read_settings(_file(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_the_password_is_not_in_the_settings_text(tmp_path: Path) -> None:
    config = _file(tmp_path, "[mail]\nuser = 'u'\npassword = 'hunter2'\n")
    settings = read_settings(config)
    assert settings.mail.password is not None
    assert "hunter2" not in repr(settings)
    assert settings.mail_folder == settings.state / "mail"
