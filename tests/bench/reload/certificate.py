"""The certificate that all measurements use."""

import subprocess


def certificate(folder):
    """Creates a self-signed certificate for every host. HAProxy requires it in one file with its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
         "-subj", "/CN=bench", "-addext", "subjectAltName=DNS:*.bench.test",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
