"""One authority, the parts' certificates, the key of service accounts, and kubeconfigs. Made anew at each start."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from onebox.layout import API_SERVICE_IP, DOMAIN, NODE, NODE_IP

SERVER = f"https://{NODE_IP}:6443"
_LIFETIME = datetime.timedelta(days=365)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a certificate speaks for; `names` are host names and addresses of a server."""

    file: str
    user: str
    group: str | None = None
    names: tuple[str, ...] = ()


_API_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{DOMAIN}",
)
IDENTITIES = (
    Identity(file="apiserver", user="kube-apiserver", names=(*_API_NAMES, NODE_IP, API_SERVICE_IP)),
    Identity(file="apiserver-kubelet-client", user="kube-apiserver-kubelet-client", group="system:masters"),
    Identity(file="kubelet-server", user=NODE, names=(NODE, NODE_IP)),
    Identity(file="admin", user="kairay-admin", group="system:masters"),
    Identity(file="kube-controller-manager", user="system:kube-controller-manager"),
    Identity(file="kube-scheduler", user="system:kube-scheduler"),
    Identity(file="kube-proxy", user="system:kube-proxy"),
    Identity(file="kubelet", user=f"system:node:{NODE}", group="system:nodes"),
    Identity(file="kwok", user="kwok", group="system:masters"),
)


def create(pki: Path, now: datetime.datetime) -> None:
    """Write ca.crt, <file>.crt, <file>.key, <file>.kubeconfig and the service-account pair sa.key, sa.pub (0600)."""
    pki.mkdir(parents=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("kairay-cluster-ca", None)
    authority = (
        _builder(authority_name, authority_name, authority_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    authority_pem = authority.public_bytes(serialization.Encoding.PEM)
    _write(pki / "ca.crt", authority_pem)
    for identity in IDENTITIES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _issue(identity, key, authority_name, authority_key, now)
        certificate_pem, key_pem = certificate.public_bytes(serialization.Encoding.PEM), _pem(key)
        _write(pki / f"{identity.file}.crt", certificate_pem)
        _write(pki / f"{identity.file}.key", key_pem)
        _write(
            pki / f"{identity.file}.kubeconfig",
            _kubeconfig(identity, authority_pem, certificate_pem, key_pem),
        )
    _service_account(pki)


def _issue(
    identity: Identity,
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = (
        _builder(_name(identity.user, identity.group), issuer, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
    )
    if identity.names:
        names = x509.SubjectAlternativeName([_subject_name(name) for name in identity.names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of clients may be a little behind.
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _name(user: str, group: str | None) -> x509.Name:
    organisation = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*organisation, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _subject_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _service_account(pki: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(pki / "sa.key", _pem(key))
    _write(pki / "sa.pub", public)


def _kubeconfig(identity: Identity, authority: bytes, certificate: bytes, key: bytes) -> bytes:
    """Everything embedded, so that the file may be copied; JSON is YAML."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NODE, "cluster": {"server": SERVER, "certificate-authority-data": encoded(authority)}}],
        "users": [{
            "name": identity.file,
            "user": {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)},
        }],
        "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": identity.file}}],
        "current-context": NODE,
    }  # fmt: skip
    return json.dumps(config, indent=1).encode()


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
