"""docs/enrolment.md's commands, word for word: curl and openssl alone against the real listener."""

import json
import os
import re
import subprocess
from pathlib import Path

from protocol.claim_qr import claim_qr_text
from tests.cloud.api.enrolment_office import Office

GUIDE = Path(__file__).parents[3] / "docs" / "enrolment.md"


def test_the_guides_commands_enrol_and_renew_with_curl_and_openssl_alone(
    office: Office, tmp_path: Path
) -> None:
    commands = re.findall(
        r"^```sh by-hand\n(.*?)^```", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(commands) == 5
    claim = office.claim(device_id="by-hand-1", serial="10000000a1")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input="".join(commands),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "QR": claim_qr_text(claim)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert [line for line in told if line.endswith(": OK")] == [
        "authorities.pem: OK",
        "certificate.pem: OK",
        "certificate.new.pem: OK",
    ]
    for name in ("id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256", "serialNumber"):
        assert any(line.endswith(f":{name}") for line in told), ran.stdout
    assert json.loads((tmp_path / "connection.json").read_text())["device_id"] == "by-hand-1"
    assert len(office.certificates_of("by-hand-1")) == 2
