"""Lockgate and the raw forwarder as proxies of the benchmark."""

from pathlib import Path

from peer import HOST, Peer, free_port


class Lockgate(Peer):
    label = "Lockgate"
    http2 = True
    missing = "cargo build --release, and pass its path"
    file = "lockgate.toml"
    command = ["{program}", "run", "--config", "{folder}/lockgate.toml"]

    def __init__(self, settings, label=None, **switches):
        """Switches: `server`, `limits` and `session` are lines for those sections; `hosts` and `certificates` add entries."""
        super().__init__(settings)
        self.label = label or self.label
        self.switches = switches

    @property
    def key(self):
        return self.name if self.label == Lockgate.label else self.label

    def find(self):
        return self.settings.lockgate and str(Path(self.settings.lockgate).resolve())

    def config(self, folder, port, backend):
        more = self.switches.get
        certificates = more("certificates", lambda folder: [])(folder)
        files = "".join(f'    {{ cert = "{cert}", key = "{key}" }},\n' for cert, key in [("cert.pem", "key.pem"), *certificates])
        hosts = [HOST, *more("hosts", [])]
        routes = "".join(
            f'\n[[routes]]\nname = "{host}"\nhosts = ["{host}"]\nto = "ws://127.0.0.1:{backend}"\n' for host in hosts
        )
        return f"""
[server]
https = ["127.0.0.1:{port}"]
http = []
admin = "unix:{folder}/admin.sock"
{more("server", f'metrics = "127.0.0.1:{free_port()}"')}

[limits]
{more("limits", "")}

[session]
{more("session", "")}

[tls]
certificates = [
{files}]
{routes}
"""


class Forward(Peer):
    label = "raw tokio-rustls byte forwarder"
    version = None

    def find(self):
        return str(self.settings.load)

    def prepare(self, folder, port, backend):
        return [self.program, "forward", "--listen", str(port), "--to", f"127.0.0.1:{backend}",
                "--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]
