"""Certificates of an authority of our own, for servers on this machine and their clients."""

from pathlib import Path

import trustme


class Authority:
    """An authority, its certificate and what it issues, in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.certificate = self._written("ca.pem", self._ca.cert_pem)

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Issue a certificate for these names; returns the files of it and of its key."""
        issued = self._ca.issue_cert(*names)
        stem = names[0].replace("/", "-").replace(":", "-")
        chain = self._written(f"{stem}.pem", *issued.cert_chain_pems)
        return chain, self._written(f"{stem}.key", issued.private_key_pem)

    def server(self) -> list[str]:
        """Issue a certificate of this machine; returns the flags by which a server has it."""
        certificate, key = self.issue("localhost", "127.0.0.1", "::1")
        return [f"--tls-certificate={certificate}", f"--tls-key={key}"]

    def _written(self, name: str, *blobs: trustme.Blob) -> Path:
        path = self._folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path
