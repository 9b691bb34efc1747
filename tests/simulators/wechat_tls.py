"""A certificate that signs itself, made anew: a puppet service has one of its own, not one of an authority."""

from __future__ import annotations

import secrets
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from Crypto.Util.asn1 import (
    DerBitString,
    DerBoolean,
    DerObjectId,
    DerOctetString,
    DerSequence,
    DerSetOf,
)

_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_COMMON_NAME = "2.5.4.3"
_ALTERNATIVE_NAMES = "2.5.29.17"
_BASIC_CONSTRAINTS = "2.5.29.19"


def make_certificate() -> tuple[str, str]:
    """Key and certificate, as PEM: for `insecure` (as the Wechaty project's own), `localhost` and 127.0.0.1."""
    key = ECC.generate(curve="P-256")
    algorithm = DerSequence([DerObjectId(_ECDSA_WITH_SHA256).encode()])
    name = DerSequence(
        [DerSetOf([DerSequence([DerObjectId(_COMMON_NAME).encode(), _text("insecure")]).encode()]).encode()]
    )
    now = datetime.now(UTC)
    validity = DerSequence([_time(now - timedelta(days=1)), _time(now + timedelta(days=30))])
    body = DerSequence(
        [
            _tagged(0, b"\x02\x01\x02"),  # version 3
            secrets.randbits(63),
            algorithm.encode(),
            name.encode(),
            validity.encode(),
            name.encode(),
            key.public_key().export_key(format="DER"),
            _tagged(3, DerSequence([_extension(*each) for each in _extensions()]).encode()),
        ]
    ).encode()
    signature = DSS.new(key, "fips-186-3", encoding="der").sign(SHA256.new(body))
    certificate = DerSequence([body, algorithm.encode(), DerBitString(signature).encode()]).encode()
    return str(key.export_key(format="PEM")), ssl.DER_cert_to_PEM_cert(certificate)


def server_context(key: str, certificate: str) -> ssl.SSLContext:
    """For HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "server.pem"
        file.write_text(key + "\n" + certificate)
        context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    return context


def _extensions() -> list[tuple[str, bool, bytes]]:
    names = [_tagged(2, b"insecure", whole=False), _tagged(2, b"localhost", whole=False)]
    names.append(_tagged(7, bytes((127, 0, 0, 1)), whole=False))
    return [
        (_BASIC_CONSTRAINTS, True, DerSequence([DerBoolean(True).encode()]).encode()),
        (_ALTERNATIVE_NAMES, False, DerSequence(names).encode()),
    ]


def _extension(id: str, critical: bool, content: bytes) -> bytes:
    parts = [DerObjectId(id).encode(), *([DerBoolean(True).encode()] if critical else [])]
    return DerSequence([*parts, DerOctetString(content).encode()]).encode()


def _tagged(number: int, content: bytes, *, whole: bool = True) -> bytes:
    """A context-specific tag around (`whole`) or instead of the type's own."""
    return _object(0x80 | (0x20 if whole else 0) | number, content)


def _text(text: str) -> bytes:
    return _object(0x0C, text.encode())


def _time(at: datetime) -> bytes:
    return _object(0x17, at.strftime("%y%m%d%H%M%SZ").encode())


def _object(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes([length]) if length < 128 else bytes([0x82, length >> 8, length & 0xFF])
    return bytes([tag]) + head + content
