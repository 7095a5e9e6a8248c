"""The appliances' gate put together from the settings: what nobody could use is refused."""

from ipaddress import ip_address
from typing import Final

from cryptography import x509

from cloud.api.appliances import AppliancesListener, read_certificates, root_file
from cloud.api.context import Cloud
from cloud.api.server import listen, reachable
from cloud.authority import open_authority
from cloud.operations.enrolment.enrol_gate import Gate
from cloud.settings import AppliancesSettings, Settings, SettingsError
from provisioning.authority.folder import ROOT_CERTIFICATE

_HTTPS_PORT: Final = 443
_BROKER_PORT: Final = 8883


class OwnGate:
    """The socket is taken at once; whoever connects waits until the listener starts."""

    def __init__(self, settings: Settings, appliances: AppliancesSettings) -> None:
        """Raises SettingsError where nobody could enrol, or believe us, with what is set."""
        self._settings = appliances
        self._listening = listen(appliances.host, appliances.port, "appliances")
        port = int(self._listening.getsockname()[1])
        self.own_url: Final = f"https://{reachable(appliances.host)}:{port}"
        try:
            self.gate: Final = _gate(settings, appliances, port)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._listening.close()

    def listener(self, cloud: Cloud) -> AppliancesListener:
        return AppliancesListener(cloud, self._settings, self._listening)


def _gate(settings: Settings, appliances: AppliancesSettings, port: int) -> Gate:
    own = read_certificates(appliances.certificate)
    [root, *_] = read_certificates(root_file(appliances))
    if len(own) < 2:
        raise SettingsError(
            f"appliances: {appliances.certificate} holds no issuing certificate: "
            "take the file that `railtix-ops ca issue server` wrote"
        )
    authority = None
    if settings.authority is not None:
        authority = open_authority(settings.authority)
        ours = read_certificates(settings.authority.folder / ROOT_CERTIFICATE)
        if ours != [root]:
            raise SettingsError(
                "appliances: its certificate is not of the authority of [authority]"
            )
    host = reachable(appliances.host)
    if appliances.url is not None:
        host, port = str(appliances.url.host), appliances.url.port or _HTTPS_PORT
    host = host.strip("[]").lower()
    if not _is_for(own[0], host):
        raise SettingsError(
            f"appliances: {appliances.certificate} is not for {host}: appliances would not "
            "believe it; correct url, or issue one for that name"
        )
    broker = settings.broker
    return Gate(
        host=host,
        port=port,
        broker_host=appliances.broker_host or ("localhost" if broker is None else broker.host),
        broker_port=appliances.broker_port or (_BROKER_PORT if broker is None else broker.port),
        root=root,
        issuing=own[1],
        authority=authority,
    )


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        return host in names.get_values_for_type(x509.DNSName)
