"""What is shipped, and what each machine gets of it."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def packages_of(extra: str) -> set[str]:
    """Everything that an empty environment would get with one extra of ours."""
    wanted, found = [("railtix-credits", extra)], set[tuple[str, str]]()
    while wanted:
        name, of_extra = wanted.pop()
        if (name, of_extra) in found:
            continue
        found.add((name, of_extra))
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": of_extra}):
                wanted += [(canonicalize_name(needed.name), each) for each in ("", *needed.extras)]
    return {name for name, _ in found} - {"railtix-credits"}


def modules_after(code: str, packages: set[str]) -> set[str]:
    """What a fresh Python has loaded after this, where it finds these packages and ours alone."""
    hidden = [
        top
        for top, owners in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & packages and top not in OURS
    ]
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))"
    said = run(
        sys.executable, "-c", f"{hide}; {code}; print(*filter(sys.modules.get, sys.modules))"
    )
    return set(said.split())


def test_the_wheel_holds_our_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        names = archive.namelist()
    assert {top for top in tops if not top.endswith(".dist-info")} == OURS
    assert "device/py.typed" in names
    assert not [name for name in names if "test" in Path(name).name]


def test_an_appliance_carries_no_web_framework_and_no_database_server() -> None:
    packages = packages_of("device")
    assert not packages & {"fastapi", "starlette", "sqlalchemy", "stripe", "uvicorn"}
    assert {"gpiozero", "paho-mqtt", "python-escpos", "zxing-cpp"} <= packages
    loaded = modules_after("import device.__main__, device.service", packages)
    assert "paho.mqtt.client" in loaded
    # typer brings pydantic along; an appliance's memory has no room for it.
    assert not {"pydantic", "numpy"} & loaded


def test_the_cloud_carries_no_appliance() -> None:
    packages = packages_of("cloud")
    assert not packages & {"gpiozero", "pyzbar", "zxing-cpp", "python-escpos", "picamera2", "numpy"}
    assert {"fastapi", "sqlalchemy"} <= packages
    loaded = modules_after("import cloud.__main__, cloud.serving, cloud.api.app", packages)
    assert {"fastapi", "sqlalchemy"} <= loaded
