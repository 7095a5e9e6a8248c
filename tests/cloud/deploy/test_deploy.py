"""What is laid out in cloud/deploy fits the programs that it starts and watches."""

import configparser
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client import generate_latest
from sqlalchemy import update

from cloud.__main__ import app
from cloud.effective_settings import every_setting
from cloud.metrics import REGISTRY
from cloud.monitoring import Telling
from cloud.readiness import Readiness
from cloud.settings import read_settings
from cloud.store.tables import devices
from tests.cloud.floor import Floor

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "cloud" / "deploy"
# What runs the cloud, and how an event is run with it.
OPERATIONS = "".join(
    (ROOT / "docs" / name).read_text("utf-8") for name in ("running.md", "operations.md")
)
ALERTS: Any = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
COMPOSE: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
DASHBOARD: Any = json.loads((DEPLOY / "grafana" / "dashboards" / "railtix.json").read_text("utf-8"))
OURS = {
    name: each for name, each in COMPOSE["services"].items() if "railtix-cloud" in each["image"]
}


def _commands() -> Any:
    return typer.main.get_command(app)


def _is_group(command: Any) -> bool:
    return hasattr(command, "commands")


@pytest.fixture
def metrics(tmp_path: Path) -> set[str]:
    """Every name under which a process tells something, as Prometheus stores it."""
    floor = Floor(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path / "keys")
    floor.add_till()
    with floor.database.transaction() as connection:
        # As its heartbeat does: nothing is told of a temperature that nobody feels.
        heard = {"temperature_c": 41, "last_seen_at": floor.now()}
        connection.execute(update(devices).values(heard))
    readiness = Readiness(floor.database)
    told = Telling(floor.database, readiness, floor.now)
    REGISTRY.register(told)
    try:
        text = generate_latest(REGISTRY).decode()
    finally:
        REGISTRY.unregister(told)
        floor.close()
    names: set[str] = {"up"}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        match kind:
            case "histogram":
                names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
            case _:
                names.add(name)
    return names


def _named_in(expression: str) -> set[str]:
    """The metrics of a PromQL expression: words that are neither functions nor labels."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"[a-z][a-z0-9_]*(?!\w)(?!\s*\()", bare)
    return {word for word in words if word not in {"or", "and", "unless", "by", "on"}}


def _expressions() -> list[str]:
    alerts = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    panels = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
    ]
    assert len(alerts) > 10
    assert len(panels) > 20
    return alerts + panels


def test_every_metric_that_is_watched_is_told(metrics: set[str]) -> None:
    for expression in _expressions():
        named = _named_in(expression)
        assert named, expression
        assert named <= metrics, expression


def test_every_metric_that_is_told_is_explained(metrics: set[str]) -> None:
    ours = {re.sub(r"_(bucket|sum|count)$", "", each) for each in metrics}
    missing = {
        each for each in ours if each.startswith("railtix_") and f"`{each}" not in OPERATIONS
    }
    assert missing == set()


def test_every_alert_has_its_section(metrics: set[str]) -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert f"**{rule['alert']}**" in OPERATIONS, rule["alert"]
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert rule["annotations"]["summary"]


def test_the_compose_file_is_one() -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_the_containerfile_passes_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [linter, DEPLOY / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


_ALL_OF_IT = """
import importlib, pkgutil, sys
for room in {"cloud", "device", "image", "protocol", "provisioning", "venue"} - set(sys.argv):
    sys.modules[room] = None
import cloud
for each in pkgutil.walk_packages(cloud.__path__, "cloud."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
"""


def test_the_container_holds_every_room_that_the_cloud_imports() -> None:
    container = (DEPLOY / "Containerfile").read_text("utf-8")
    copied = re.findall(r"^COPY (\w+) /app/\1$", container, re.MULTILINE)
    subprocess.run([sys.executable, "-c", _ALL_OF_IT, *copied], cwd=ROOT, check=True)


def test_containers_run_programs_that_there_are() -> None:
    commands = _commands().commands
    assert {each["command"][0] for each in OURS.values()} == {
        *("migrate", "api", "worker", "sequencer", "courier", "warden"),
    }
    for name, each in OURS.items():
        assert each["command"][0] in commands, name


def test_containers_are_given_settings_that_there_are() -> None:
    known = set(every_setting())
    for name, each in OURS.items():
        for variable in set(each["environment"]) - {"RAILTIX_SECRETS"}:
            assert _setting(variable.removeprefix("RAILTIX_")) in known, f"{name}: {variable}"
        for secret in each["secrets"]:
            assert _setting(secret) in known, f"{name}: {secret}"


def _setting(name: str) -> str:
    return name.lower().replace("__", ".")


def test_containers_settings_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "database").write_text("postgresql://railtix:a-password@database/railtix\n")
    (secrets / "database_password").write_text("of another program\n")
    (secrets / "mail__password").write_text("a-password\n")
    (secrets / "payments__stripe_secret_key").write_text("sk_test_1\n")
    (secrets / "payments__stripe_webhook_secret").write_text("whsec_1\n")
    config = tmp_path / "cloud.toml"
    config.write_text("")
    for name, each in OURS.items():
        with monkeypatch.context() as given:
            for variable, value in each["environment"].items():
                given.setenv(variable, _filled(str(value)))
            given.setenv("RAILTIX_SECRETS", str(secrets))
            settings = read_settings(config)
        assert settings.metrics.port == 9100, name
        assert (settings.broker is not None) == name.startswith(("worker", "warden")), name
        assert (settings.authority is not None) == (name == "warden"), name
        assert settings.payments.provider == "stripe"


def _filled(value: str) -> str:
    usual = {
        "RAILTIX_PUBLIC_URL": "https://credits.example.org",
        "RAILTIX_MAIL_SENDER": "Credits <credits@example.org>",
    }
    named = re.fullmatch(r"\$\{(\w+):\?[^}]*\}", value)
    return usual.get(named[1], "example.org") if named else value


def test_no_container_may_more_than_it_needs() -> None:
    for name, each in COMPOSE["services"].items():
        assert each["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in each["security_opt"], name
        assert each.get("read_only") or name == "database", name
        assert "privileged" not in each, name
        assert not any(
            "PASSWORD" in key and "FILE" not in key for key in each.get("environment", {})
        )
        published = [str(port) for port in each.get("ports", [])]
        assert all(port.startswith("127.0.0.1:") for port in published) or name == "broker", name


def test_every_secret_is_a_file_that_is_not_in_the_repository() -> None:
    assert all(each["file"].startswith("./secrets/") for each in COMPOSE["secrets"].values())
    assert "secrets/" in (DEPLOY / ".gitignore").read_text("utf-8").splitlines()
    assert not (DEPLOY / "secrets").exists()


def test_prometheus_asks_the_containers_that_tell() -> None:
    config: Any = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = {
        target.partition(":")[0]
        for job in config["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert targets == set(OURS) - {"migrate"}
    assert config["rule_files"] == ["alerts.yml"]


def test_the_example_settings_name_every_setting_there_is() -> None:
    text = (DEPLOY / "cloud.toml").read_text("utf-8")
    assert _leaves(tomllib.loads(_uncommented(text))) == set(every_setting())


def test_the_example_settings_can_be_used(tmp_path: Path) -> None:
    settings = read_settings(DEPLOY / "cloud.toml")
    assert settings.http.port == 8000
    everything = tmp_path / "cloud.toml"
    everything.write_text(_uncommented((DEPLOY / "cloud.toml").read_text("utf-8")))
    assert read_settings(everything).broker is not None


def _uncommented(text: str) -> str:
    """With what is switched off switched on: `#port = 1`, where prose is `# Prose`."""
    return re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE)


def _leaves(said: dict[str, Any], before: str = "") -> set[str]:
    return {
        leaf
        for name, value in said.items()
        for leaf in (
            _leaves(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}"}
        )
    }


def test_the_unit_starts_a_program_and_shuts_it_in() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((DEPLOY / "systemd" / "railtix-cloud@.service").read_text("utf-8"))
    service = unit["Service"]
    assert service["ExecStart"] == "/opt/railtix/bin/railtix-cloud %i"
    assert int(service["TimeoutStopSec"]) > 25 + 5
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_commands_in_the_guide_are_there() -> None:
    group = _commands()
    named = re.findall(r"railtix-cloud ((?:[a-z-]+ ?)+)((?: --[a-z-]+)*)", OPERATIONS)
    assert len(named) > 15
    for words, _ in named:
        command: Any = group
        for word in words.split():
            if not _is_group(command):
                break
            assert word in command.commands, f"railtix-cloud {words}"
            command = command.commands[word]


def test_options_in_the_guide_are_there() -> None:
    group = _commands()
    for line in OPERATIONS.splitlines():
        for call in re.findall(r"railtix-cloud ([^`#|&;]+)", line):
            words = call.split()
            command: Any = group
            while words and _is_group(command) and words[0] in command.commands:
                command = command.commands[words.pop(0)]
            if _is_group(command):
                continue
            options = {option for each in command.params for option in each.opts}
            for word in words:
                if word.startswith("--"):
                    assert word.partition("=")[0] in options, f"railtix-cloud {call}"
