"""Real places to send dumps to, on the loopback: OpenStack Swift, which speaks S3, and OpenSSH's sftp server.

Both, rclone and what kdump-pkg needs come from Debian sid, in a root of their own that nothing else uses. The servers
run in a private clone of it; what was started here is ended here, by its process id.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import debian
from .chroot import CONFINED, ENVIRONMENT, Clone
from .common import LabError, Text, digest, once, remove, run, say, source_digest

REPO = Path(__file__).resolve().parents[2]

PACKAGES = (
    "python3", "python3-configobj", "python3-swift", "rclone", "openssh-server", "openssh-sftp-server",
)  # fmt: skip
RINGS = """
from swift.common.ring import RingBuilder
for kind, port in (("account", {account}), ("container", {container}), ("object", {object})):
    ring = RingBuilder(4, 1, 0)
    ring.add_dev({{"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1.0}})
    ring.rebalance()
    ring.get_ring().save(f"/etc/swift/{{kind}}.ring.gz")
"""
QUOTA = """
from swift.common import direct_client
node = {{"ip": "127.0.0.1", "port": {port}, "device": "disk", "region": 1, "zone": 1}}
from swift.common.ring import Ring
part, nodes = Ring("/etc/swift", ring_name="container").get_nodes("AUTH_fleet", "{bucket}")
headers = {{"X-Container-Meta-Quota-Bytes": "{size}", "X-Timestamp": "{now}"}}
direct_client.direct_put_container(node, part, "AUTH_fleet", "{bucket}", headers=headers)
"""
SERVE = "import sys; from swift.common.wsgi import run_wsgi; sys.exit(run_wsgi(sys.argv[1], sys.argv[2]))"
SWIFT = "[swift-hash]\nswift_hash_path_prefix = lab\nswift_hash_path_suffix = lab\n"
BEHIND = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
mount_check = false
devices = /srv/node
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
[pipeline:main]
pipeline = catch_errors s3api tempauth container-quotas proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
auth_pipeline_check = false
[filter:tempauth]
use = egg:swift#tempauth
user_fleet_sender = {secret} .admin
[filter:container-quotas]
use = egg:swift#container_quotas
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey /etc/ssh/lab_host
AuthorizedKeysFile /etc/ssh/lab_authorized
PidFile none
UsePAM no
PasswordAuthentication no
PerSourcePenalties no
StrictModes no
Subsystem sftp internal-sftp
{more}
"""
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
ACCESS, SECRET = "fleet:sender", "a-secret-that-no-log-may-hold"
S3 = """[s3]
type = s3
provider = Other
access_key_id = {access}
secret_access_key = {secret}
endpoint = http://127.0.0.1:{port}
region = us-east-1
"""
SFTP = """[sftp]
type = sftp
host = 127.0.0.1
port = {port}
user = vault
key_file = /etc/kdump-pkg/key
known_hosts_file = /etc/kdump-pkg/known_hosts
"""


def root() -> Path:
    """The directory with all programs; made once, in a minute."""

    def make(dest: Path) -> None:
        say("a root with OpenStack Swift, sshd and rclone from Debian sid (once, a minute)")
        debian.bootstrap("sid", PACKAGES, dest)
        run(["chroot", dest, "useradd", "--create-home", "--password", "*", "--shell", "/bin/sh", "vault"])

    return once(f"stores/{digest(*PACKAGES, source_digest('debian'))}", make)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Process:
    """A server of ours. It is process 1 of a namespace, so nothing that it starts outlives it."""

    argv: Sequence[str]
    clone: Clone
    port: int
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.popen = spawn(self.clone, self.argv, self.clone.path / f"var/log/{self.port}.log")

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.popen is not None
            if self.popen.poll() is not None:
                raise LabError(f"{self.argv}: ended\n{self.log()[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise LabError(f"{self.argv}: doesn't answer\n{self.log()[-2000:]}")

    def stop(self) -> None:
        if self.popen is not None:
            kill(self.popen)
            self.popen = None

    def log(self) -> str:
        return (self.clone.path / f"var/log/{self.port}.log").read_text(errors="replace")


def spawn(clone: Clone, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program inside, in a process group of its own, what it says going to a file."""
    inside = ["chroot", os.fspath(clone.path), "/usr/bin/env", "-i", *(f"{k}={v}" for k, v in ENVIRONMENT.items())]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*DIES_WITH_US, *CONFINED, os.fspath(clone.path), *inside, *argv],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the whole group at once, as a power cut would have it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Stores:
    """Both servers, and the clone in which they, and the machine that sends, live."""

    def __init__(self) -> None:
        self.clone = Clone([root()])
        self.ports = dict(zip(("proxy", "account", "container", "object", "sshd"), free_ports(5), strict=True))
        self.servers: dict[str, Process] = {}

    def open(self) -> None:
        self._configure_swift()
        self._configure_sshd()
        for server in self.servers.values():
            server.start()
        for server in self.servers.values():
            server.wait()

    def close(self) -> None:
        for server in self.servers.values():
            server.stop()
        self.clone.close()

    def restart(self, *names: str) -> None:
        for name in names:
            self.servers[name].start()
        for name in names:
            self.servers[name].wait()

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file of the machine that sends."""
        path = self.clone.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def rclone(self, *words: str, check: bool = True) -> str:
        """The whole truth about what lies there, by the same rclone."""
        argv = ["rclone", "--config", "/etc/kdump-pkg/rclone.conf", "--log-level", "ERROR", *words]
        return self.clone.run(argv, check=check, timeout=120).stdout

    def limit(self, bucket: str, size: int) -> None:
        """Let a bucket hold no more than so many bytes."""
        words = {"port": self.ports["container"], "bucket": bucket, "size": size, "now": f"{time.time():.5f}"}
        self.clone.run(["python3", "-c", QUOTA.format(**words)])

    def _configure_swift(self) -> None:
        (self.clone.path / "srv/node/disk").mkdir(parents=True)
        self.write("/etc/swift/swift.conf", SWIFT)
        for kind in ("account", "container", "object"):
            self.write(f"/etc/swift/{kind}.conf", BEHIND.format(kind=kind, port=self.ports[kind]))
            self._serve(kind, ["python3", "-c", SERVE, f"/etc/swift/{kind}.conf", f"{kind}-server"])
        self.write("/etc/swift/proxy.conf", PROXY.format(port=self.ports["proxy"], secret=SECRET))
        self._serve("proxy", ["python3", "-c", SERVE, "/etc/swift/proxy.conf", "proxy-server"])
        self.clone.run(["python3", "-c", RINGS.format(**self.ports)])

    def _configure_sshd(self) -> None:
        for name in ("/etc/ssh/lab_host", "/etc/kdump-pkg/key"):
            (self.clone.path / name.lstrip("/")).parent.mkdir(exist_ok=True)
            self.clone.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name])
        key = (self.clone.path / "etc/kdump-pkg/key.pub").read_text()
        host = (self.clone.path / "etc/ssh/lab_host.pub").read_text()
        self.write("/etc/ssh/lab_authorized", key)
        self.write("/etc/kdump-pkg/known_hosts", f"[127.0.0.1]:{self.ports['sshd']} {host}", 0o600)
        self.write("/etc/ssh/lab_sshd", SSHD.format(port=self.ports["sshd"], more="ForceCommand internal-sftp"))
        serve = "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f /etc/ssh/lab_sshd"
        self._serve("sshd", ["sh", "-c", serve])

    def _serve(self, name: str, argv: Sequence[str]) -> None:
        self.servers[name] = Process(argv, self.clone, self.ports[name])


@contextlib.contextmanager
def stores() -> Iterator[Stores]:
    """Both servers at work."""
    one = Stores()
    try:
        one.open()
        yield one
    finally:
        one.close()


@dataclass(frozen=True)
class Dump:
    """A dump on the machine that sends, and what has to be there when it has arrived."""

    id: str
    signature: str
    files: dict[str, bytes]


class Machine:
    """The one that sends: the program as the package lays it down, with parts of PART bytes, and dumps."""

    def __init__(self, servers: Stores, part: int) -> None:
        self.servers = servers
        self.root = servers.clone.path
        if not (self.root / "usr/lib/kdump-pkg").exists():
            self._install(self.root / "usr/lib/kdump-pkg", part)
        for name in ("var/lib/kdump-pkg", "var/crash"):
            remove(self.root / name)
            (self.root / name).mkdir(mode=0o700)

    def _install(self, library: Path, part: int) -> None:
        shutil.copytree(REPO / "kdump_pkg", library / "kdump_pkg", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPO / "kdump_pkg/__main__.py", library)
        shutil.copy2(REPO / "kdump-pkg", self.root / "usr/bin/kdump-pkg")
        plan = library / "kdump_pkg/plan/upload.py"
        text, count = re.subn(r"^PART = .*$", f"PART = {part}", plan.read_text(), flags=re.MULTILINE)
        assert count == 1
        plan.write_text(text)
        self.servers.clone.run(["python3", "-m", "compileall", "-q", "/usr/lib/kdump-pkg"])

    def configure(self, upload: str, rclone: str) -> None:
        self.servers.write("/etc/kdump-pkg.conf", f"[upload]\nhost = machine-1\n{upload}")
        self.servers.write("/etc/kdump-pkg/rclone.conf", rclone, 0o600)

    def add(self, id: str, core: int, dice: random.Random) -> Dump:
        """A dump with a core of so many bytes that no store can guess."""
        signature = f"{dice.getrandbits(64):016x}"
        files = {
            "meta": b"format=1\nrelease=6.12.1-arch1-1\nresult=complete\n",
            "dmesg.txt": dice.randbytes(70_000),
            "save.log": b"saved\n",
            "report.json": json.dumps({"version": 1, "crash": {"signature": signature, "cause": "x"}}).encode(),
            "report.txt": b"it crashed\n",
            "vmcore": dice.randbytes(core),
        }
        files["report.sums"] = b"".join(
            hashlib.sha256(files[n]).hexdigest().encode() + f"  {n}\n".encode() for n in files
        )
        directory = self.root / "var/crash" / id
        directory.mkdir(mode=0o700)
        for name, data in files.items():
            (directory / name).write_bytes(data)
        return Dump(id, signature, files)

    def upload(self, *flags: str) -> Text:
        return self.servers.clone.run(["kdump-pkg", "upload", *flags], check=False, timeout=300)

    def record(self) -> dict[str, Any]:
        path = self.root / "var/lib/kdump-pkg/uploads.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"dumps": {}}
        return found
