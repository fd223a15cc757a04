"""Certificates for tests, made by openssl."""
import pathlib
import subprocess


def self_signed(folder, name="localhost"):
    """The path of a PEM file with a certificate for `name` and 127.0.0.1, and its key."""
    path = pathlib.Path(folder) / f"{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1",
                    "-keyout", path.with_suffix(".key"), "-out", path], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".key").read_text())
    return path
