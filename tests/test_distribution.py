"""What is shipped, and what each machine gets of it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"protocol", "device", "cloud", "provisioning", "venue"}


def run(*argv: str | Path) -> str:
    ended = subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, check=False, cwd="/"
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, ROOT),
    )
    (made,) = folder.glob("*.whl")
    return made


def installed_by(wheel: Path, extra: str, folder: Path) -> tuple[Path, set[str]]:
    """An empty environment, given the wheel with one extra: its Python and its packages."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}[{extra}]")
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    return python, {package["name"].lower().replace("_", "-") for package in listed}


def test_the_wheel_holds_our_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        names = archive.namelist()
    assert {top for top in tops if not top.endswith(".dist-info")} == OURS
    assert "device/py.typed" in names
    assert not [name for name in names if "test" in Path(name).name]


def test_an_appliance_carries_no_web_framework_and_no_database_server(
    wheel: Path, tmp_path: Path
) -> None:
    python, packages = installed_by(wheel, "device", tmp_path / "device")
    assert not packages & {"fastapi", "starlette", "sqlalchemy", "stripe", "uvicorn"}
    assert {"gpiozero", "paho-mqtt", "python-escpos", "zxing-cpp"} <= packages
    assert "Usage" in run(python, "-m", "device", "--help")
    loaded = run(python, "-c", "import device.service, sys; print(*sys.modules)").split()
    assert "paho.mqtt.client" in loaded
    # typer brings pydantic along; an appliance's memory has no room for it.
    assert not {"pydantic", "numpy"} & set(loaded)


def test_the_cloud_carries_no_appliance(wheel: Path, tmp_path: Path) -> None:
    python, packages = installed_by(wheel, "cloud", tmp_path / "cloud")
    assert not packages & {"gpiozero", "pyzbar", "zxing-cpp", "python-escpos", "picamera2", "numpy"}
    assert {"fastapi", "sqlalchemy"} <= packages
    assert "Usage" in run(python, "-m", "cloud", "--help")
