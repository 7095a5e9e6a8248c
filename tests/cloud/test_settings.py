from pathlib import Path

import pytest

from cloud.effective_settings import effective_settings, every_setting
from cloud.settings import SettingsError, read_settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAILTIX_STATE", "RAILTIX_DATABASE", "RAILTIX_HTTP__PORT"):
        monkeypatch.delenv(name, raising=False)


def _file(folder: Path, text: str) -> Path:
    path = folder / "cloud.toml"
    path.write_text(text)
    return path


def test_the_command_line_wins_over_variables_and_they_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _file(tmp_path, 'state = "/from/file"\n[http]\nport = 1\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("RAILTIX_HTTP__PORT", "2")
    settings = read_settings(config, state=tmp_path)
    assert settings.state == tmp_path
    assert (settings.http.port, settings.http.host) == (2, "0.0.0.0")
    assert settings.database_url == f"sqlite:///{tmp_path}/cloud.sqlite"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stat = 'x'", "stat: there is no such setting"),
        ("[http]\nprt = 1", "http.prt: there is no such setting"),
        ("[http]\nport = 'a'", "http.port"),
        ("[http]\nport = 70000", "http.port"),
        ("[http]\ntls_key = 'k'", "http: .*tls_certificate and tls_key"),
        ("[broker]\nhost = 'h'", "broker.certificate"),
        ("[payments]\nwebhook_secret = 'hunter2'", "payments: .*24 characters"),
        ("public_url = 'wallet'", "public_url"),
        ("state = ", "cloud.toml"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_told(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        read_settings(_file(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_a_settings_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        read_settings(tmp_path / "missing.toml")


def test_secrets_are_not_in_the_settings_text(tmp_path: Path) -> None:
    secret = "a-secret-of-24-characters"
    config = _file(
        tmp_path,
        f"database = 'postgresql://u:hunter2@h/d'\n[payments]\nwebhook_secret = '{secret}'\n",
    )
    settings = read_settings(config)
    assert secret not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_a_secret_may_be_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "payments__webhook_secret").write_text("a-secret-of-24-characters\n")
    (secrets / "database").write_text("postgresql://u:hunter2@h/d\n")
    monkeypatch.setenv("RAILTIX_SECRETS", str(secrets))
    settings = read_settings(_file(tmp_path, "database = 'sqlite:////from/the/file'\n"))
    assert settings.database_url == "postgresql://u:hunter2@h/d"
    secret = settings.payments.webhook_secret
    assert secret is not None
    assert secret.get_secret_value() == "a-secret-of-24-characters"


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("RAILTIX_HTP__PORT", "RAILTIX_HTP__PORT: there is no such setting"),
        ("RAILTIX_HTTP__PRT", "http.prt: there is no such setting"),
    ],
)
def test_a_misspelt_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, named: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=named):
        read_settings(_file(tmp_path, ""))


def test_effective_settings_say_where_each_comes_from_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "payments__webhook_secret").write_text("a-secret-of-24-characters")
    monkeypatch.setenv("RAILTIX_SECRETS", str(secrets))
    monkeypatch.setenv("RAILTIX_HTTP__PORT", "8123")
    config = _file(tmp_path, "[http]\nhost = '0.0.0.0'\nport = 1\n")
    effective = effective_settings(config, state=tmp_path)
    found = {each.name: (each.shown, each.source) for each in effective}
    assert found["state"] == (str(tmp_path), "command line")
    assert found["http.port"] == ("8123", "variable")
    assert found["http.host"] == ("0.0.0.0", str(config))
    assert found["payments.webhook_secret"] == ("**********", "secret file")
    assert found["metrics.port"] == ("(unset)", "default")
    assert found["http.access_log"] == ("true", "default")
    assert found["limits.wallet_qr"] == ("60/minute", "default")
    assert found["broker.certificate"] == ("(unset)", "default")
    assert [each.name for each in effective] == every_setting()
    assert "a-secret-of-24" not in str(effective)
