"""A Kubernetes API server on loopback, with its etcd: the real programs, without a cluster behind them.

Objects are stored, validated and defaulted as in a cluster; nothing acts on them. They are found in
KUBEBUILDER_ASSETS or /usr/local/kubebuilder/bin.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "the-test's-own"
START_SECONDS = 120.0
ATTEMPTS = 3
APPLY = "application/apply-patch+yaml"


class ApiServerMissingError(Exception):
    """The programs are not on this machine; the message says where they were looked for."""


class ApiServerFailedError(Exception):
    """A program did not come up; the message holds the end of its log."""


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, body: dict[str, Any]) -> None:
        super().__init__(f"{code}: {body.get('message', body)}")
        self.code = code
        self.body = body


@dataclass(frozen=True)
class ApiServer:
    """Where it is, and how one is its administrator."""

    url: str
    ca_file: Path
    token: str
    audit_log: Path
    pid: int = 0

    def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> Any:
        """The decoded answer. Raises RefusedError for any status from 400 on."""
        data = None if body is None else msgspec.json.encode(body)
        request = Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", content_type)
        try:
            with urlopen(request, context=self.context(), timeout=30) as answer:
                return msgspec.json.decode(answer.read() or b"null")
        except HTTPError as error:
            with error:
                text = error.read()
            try:
                found = msgspec.json.decode(text)
            except msgspec.DecodeError:
                found = {"message": text.decode(errors="replace")}
            raise RefusedError(error.code, found) from None

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    def apply(self, manifest: dict[str, Any], *, manager: str = "test", dry_run: bool = False) -> Any:
        """Server-side apply with strict field validation, forced."""
        query = f"?fieldManager={manager}&force=true&fieldValidation=Strict" + (
            "&dryRun=All" if dry_run else ""
        )
        return self.request("PATCH", path_of(manifest) + query, manifest, content_type=APPLY)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for kubectl and clients."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": "test", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_bytes(msgspec.json.encode(document))
        return path


_CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition", "StorageClass", "ClusterRole", "PriorityClass"}
_PLURALS = {"NetworkPolicy": "networkpolicies", "Endpoints": "endpoints", "StorageClass": "storageclasses"}


def path_of(manifest: dict[str, Any]) -> str:
    """The URL path of an object."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS.get(kind) or (kind.lower() + ("es" if kind.endswith("s") else "s"))
    if kind.endswith("Policy"):
        plural = kind.lower()[:-1] + "ies"
    if kind.endswith("PriorityClass"):
        plural = "priorityclasses"
    namespace = "" if kind in _CLUSTER_WIDE else f"/namespaces/{metadata.get('namespace', 'default')}"
    return f"{base}{namespace}/{plural}/{metadata['name']}"


def programs() -> Path:
    """The folder with etcd and kube-apiserver. Raises ApiServerMissingError."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS", "/usr/local/kubebuilder/bin"))
    lacking = [name for name in ("etcd", "kube-apiserver") if not os.access(folder / name, os.X_OK)]
    if lacking:
        raise ApiServerMissingError(
            f"no {' and no '.join(lacking)} in {folder} (KUBEBUILDER_ASSETS names another folder)"
        )
    return folder


@contextlib.contextmanager
def running(folder: Path, *flags: str) -> Iterator[ApiServer]:
    """etcd and kube-apiserver, with everything they write in `folder`, until the block ends.

    flags: further ones for kube-apiserver. Raises ApiServerMissingError and ApiServerFailedError.
    """
    binaries = programs()
    folder.mkdir(parents=True, exist_ok=True)
    certificate(folder)
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    (folder / "audit.yaml").write_text(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
    )
    with contextlib.ExitStack() as stack:
        yield _up(stack, binaries, folder, flags)


def _up(stack: contextlib.ExitStack, binaries: Path, folder: Path, flags: tuple[str, ...]) -> ApiServer:
    """Both programs, until the stack is closed; tried again where another took a port that had been free."""
    for left in reversed(range(ATTEMPTS)):
        with contextlib.ExitStack() as attempt:
            try:
                server = _start(attempt, binaries, folder, flags)
            except ApiServerFailedError as error:
                if left and "address already in use" in str(error):
                    continue
                raise
            stack.enter_context(attempt.pop_all())
            return server
    raise AssertionError("the last attempt returns or raises")


def _start(stack: contextlib.ExitStack, binaries: Path, folder: Path, flags: tuple[str, ...]) -> ApiServer:
    # Ports that were free a moment ago: the programs can't bind 0 and tell.
    client, peer, secure = free_ports(3)
    etcd_url = f"http://127.0.0.1:{client}"
    etcd = stack.enter_context(
        program(
            [
                str(binaries / "etcd"),
                f"--data-dir={folder / f'etcd-{client}'}",
                f"--listen-client-urls={etcd_url}",
                f"--advertise-client-urls={etcd_url}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            folder / "etcd.log",
        )
    )
    wait_for_port(client, etcd, folder / "etcd.log")
    server = ApiServer(f"https://127.0.0.1:{secure}", folder / "ca.crt", TOKEN, folder / "audit.log")
    apiserver = stack.enter_context(
        program(
            [
                str(binaries / "kube-apiserver"),
                f"--etcd-servers={etcd_url}",
                "--bind-address=127.0.0.1",
                f"--secure-port={secure}",
                f"--cert-dir={folder}",
                f"--tls-cert-file={folder / 'server.crt'}",
                f"--tls-private-key-file={folder / 'server.key'}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://test.invalid",
                f"--service-account-key-file={folder / 'server.key'}",
                f"--service-account-signing-key-file={folder / 'server.key'}",
                "--disable-admission-plugins=ServiceAccount",
                f"--audit-policy-file={folder / 'audit.yaml'}",
                f"--audit-log-path={folder / 'audit.log'}",
                "--endpoint-reconciler-type=none",
                *flags,
            ],
            folder / "apiserver.log",
        )
    )
    wait_until_ready(server, apiserver, folder / "apiserver.log")
    return replace(server, pid=apiserver.pid)


def certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.KeyUsage(True, False, True, False, False, True, True, False, False), True)
        .sign(key, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "server.crt").write_bytes(pem)
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def program(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = started(command, output)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def started(command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        give_up(process, log, deadline)


def wait_until_ready(server: ApiServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.request("GET", "/api/v1/namespaces/default")
            return
        except (OSError, RefusedError):
            give_up(process, log, deadline)


def give_up(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    """Wait a little; raise ApiServerFailedError where there is no point in it."""
    ended, late = process.poll() is not None, time.monotonic() > deadline
    if ended or late:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ApiServerFailedError(
            f"{log.name}: {'it ended' if ended else 'not ready'}; its log ends:\n{tail}"
        )
    time.sleep(0.1)
