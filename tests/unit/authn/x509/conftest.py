"""Certificates in DER, made as tests ask for them."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certificates import CLIENT, Authority, load


class Maker:
    """An authority whose certificates are values, not files."""

    def __init__(self, directory: Path) -> None:
        self._numbers = count()
        self.authority = Authority(directory)
        self.other = Authority(directory / "other", "another CA")
        self.ca = self.authority.certificate.public_bytes(Encoding.DER)
        self.other_ca = self.other.certificate.public_bytes(Encoding.DER)

    def certificate(self, subject: x509.Name, *extensions: x509.ExtensionType) -> x509.Certificate:
        file_name = f"client-{next(self._numbers)}.pem"
        return load(self.authority.issue(file_name, subject, CLIENT, extensions=extensions))

    def der(self, subject: x509.Name, *extensions: x509.ExtensionType) -> bytes:
        return self.certificate(subject, *extensions).public_bytes(Encoding.DER)


@pytest.fixture(scope="session")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("x509"))
