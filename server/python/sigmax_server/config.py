"""The settings of a server (`ServerConfig`), by which command line, environment and documents go.

The native module reads them attribute by attribute. Values are checked when the settings are built,
so that later code need not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from sigmax_server import __version__
from sigmax_server.address import bare, is_loopback
from sigmax_server.machine import usable_cores, usable_memory
from sigmax_server.setting import (
    ALGORITHMS,
    BYTES,
    COUNT,
    DEVICE,
    FILE,
    HOST,
    LISTEN,
    MICROSECONDS,
    MODEL_NAME,
    NAMES_OF_ALGORITHMS,
    OPTIONAL_TEXT,
    OVER_ZERO_SECONDS,
    PORT,
    SECONDS,
    SWITCH,
    TEXT,
    ConfigError,
    Kind,
    Setting,
    whole,
)


def _says(kind: Kind, meaning: str, unit: str = "", default: str = "") -> Mapping[str, object]:
    return {"kind": kind, "meaning": meaning, "unit": unit, "default": default}


# What --tls-client-auth may be; nothing is as good as `require`.
_OF_CLIENTS = ("", "require", "request")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The settings of a server; the models to serve are given apart.

    Each field is a flag and an environment variable as well; see `SETTINGS`.

    Raises:
        ConfigError: a field has a value it cannot have.
    """

    host: str = field(
        default="127.0.0.1",
        metadata=_says(
            HOST, "address to listen on, for both ports; `::` is every one of IPv6 and IPv4"
        ),
    )
    grpc_port: int = field(
        default=8001,
        metadata=_says(PORT, "port for gRPC; 0: any free one"),
    )
    http_port: int = field(
        default=8000,
        metadata=_says(PORT, "port for /metrics, /healthz and /readyz; 0: any free one"),
    )
    listen: str = field(
        default="",
        metadata=_says(
            LISTEN, "Unix domain socket for gRPC beside the port, for clients on this machine"
        ),
    )
    http_host: str = field(
        default="",
        metadata=_says(
            Kind("HOST", TEXT.expected, bare, lambda value: str(value).isprintable()),
            "address of the HTTP port",
            default="that of --host",
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=_says(
            SWITCH,
            "listen on a --host that others reach without TLS, or without asking who they are",
        ),
    )
    tls_certificate: str = field(
        default="",
        metadata=_says(
            FILE, "certificate of the server and its issuers, in PEM; gRPC is over TLS with it"
        ),
    )
    tls_key: str = field(default="", metadata=_says(FILE, "private key of the certificate, in PEM"))
    tls_client_ca: str = field(
        default="",
        metadata=_says(
            FILE,
            "certificates of the authorities of clients' certificates, in PEM; a client's "
            "certificate says who the client is",
        ),
    )
    tls_client_auth: str = field(
        default="",
        metadata=_says(
            Kind("require|request", "require or request", str, _OF_CLIENTS.__contains__),
            "with --tls-client-ca, whether clients without a certificate are let in, to show a "
            "token",
            default="require",
        ),
    )
    http_tls: bool = field(
        default=False,
        metadata=_says(SWITCH, "serve the HTTP port over TLS, too, by the same certificate"),
    )
    token_file: str = field(
        default="",
        metadata=_says(
            FILE, "tokens of clients, one `name: token` or `name: sha256:HASH` in each line"
        ),
    )
    jwt_jwks: str = field(
        default="",
        metadata=_says(FILE, "public keys, a JWK set, of those who issue JSON Web Tokens"),
    )
    jwt_public_key: str = field(
        default="",
        metadata=_says(FILE, "public key, in PEM, of who issues JSON Web Tokens"),
    )
    jwt_audience: str = field(
        default="",
        metadata=_says(
            OPTIONAL_TEXT, "audience that a JSON Web Token must name (`aud`), such as the server"
        ),
    )
    jwt_issuer: str = field(
        default="",
        metadata=_says(OPTIONAL_TEXT, "issuer that a JSON Web Token must name (`iss`)"),
    )
    jwt_algorithms: str = field(
        default=",".join(ALGORITHMS),
        metadata=_says(NAMES_OF_ALGORITHMS, "algorithms by which JSON Web Tokens may be signed"),
    )
    jwt_leeway_seconds: float = field(
        default=30.0,
        metadata=_says(
            SECONDS, "most time by which a token's clock and the server's may differ", "seconds"
        ),
    )
    jwt_name_claim: str = field(
        default="sub",
        metadata=_says(TEXT, "claim of a JSON Web Token that names the client"),
    )
    jwt_groups_claim: str = field(
        default="groups",
        metadata=_says(TEXT, "claim of a JSON Web Token that names the client's groups"),
    )
    access: str = field(
        default="",
        metadata=_says(
            FILE,
            "table, in TOML, of who may do what with which models",
            default="all known clients may ask all models, and nobody may control the server",
        ),
    )
    audit_log: str = field(
        default="",
        metadata=_says(
            FILE,
            "file to which refused credentials, refused rights and control calls are written, in "
            "lines of JSON; -: standard error",
        ),
    )
    reflection: bool = field(
        default=True,
        metadata=_says(SWITCH, "tell clients the services and messages (gRPC server reflection)"),
    )
    shards: int = field(
        default_factory=usable_cores,
        metadata=_says(
            whole("N", 1, 1024),
            "event loops, one thread each, that serve requests",
            "threads",
            default="the usable cores, by affinity and control-group quota",
        ),
    )
    max_batch_size: int = field(
        default=1024,
        metadata=_says(COUNT, "most rows of one request and of one batch", "rows"),
    )
    queue_rows: int = field(
        default=65536,
        metadata=_says(
            COUNT,
            "most rows that wait for one model; more are refused; at least --max-batch-size",
            "rows",
        ),
    )
    max_message_bytes: int = field(
        default=64 * 2**20,
        metadata=_says(COUNT, "largest request message, also when decompressed", "bytes"),
    )
    memory_budget: int = field(
        default_factory=lambda: min(usable_memory() // 4, 4 * 2**30),
        metadata=_says(
            BYTES,
            "most that all requests and answers under way hold; one connection, and so one "
            "message, may hold at most half",
            "bytes",
            default="a quarter of the usable memory, by machine and control group, at most 4 GiB",
        ),
    )
    max_connections: int = field(
        default=4096,
        metadata=_says(
            COUNT,
            "most open gRPC connections, each with at most 1024 requests in flight; where all are "
            "open, a new one takes the place of the one that is idle for longest",
            "connections",
        ),
    )
    handshake_seconds: float = field(
        default=10.0,
        metadata=_says(
            OVER_ZERO_SECONDS,
            "most time that a client takes to begin HTTP/2 on a new connection",
            "seconds",
        ),
    )
    max_connection_age_seconds: float = field(
        default=0.0,
        metadata=_says(
            SECONDS,
            "time after which a gRPC client is asked to connect anew, give or take a tenth, so "
            "that balancers spread the load; 0: never",
            "seconds",
        ),
    )
    max_connection_age_grace_seconds: float = field(
        default=30.0,
        metadata=_says(
            SECONDS,
            "most time that calls of a connection that has reached its age go on",
            "seconds",
        ),
    )
    max_metadata_bytes: int = field(
        default=64 * 2**10,
        metadata=_says(
            whole("N", 2**10, 2**18),
            "most metadata of one call: names, values and 32 bytes for each entry",
            "bytes",
        ),
    )
    stall_seconds: float = field(
        default=60.0,
        metadata=_says(
            OVER_ZERO_SECONDS,
            "most time that a client leaves a message half sent or an answer unread; then its "
            "connection is cut off",
            "seconds",
        ),
    )
    busy_poll_microseconds: int = field(
        default=0,
        metadata=_says(
            MICROSECONDS,
            "most time that an idle shard polls for the next request before it sleeps",
            "microseconds",
        ),
    )
    max_run_seconds: float = field(
        default=60.0,
        metadata=_says(
            OVER_ZERO_SECONDS,
            "most time of one run of a model; a longer run is ended, and its requests are "
            "DEADLINE_EXCEEDED",
            "seconds",
        ),
    )
    model_memory_limit: int = field(
        default_factory=lambda: usable_memory() // usable_cores() // 2,
        metadata=_says(
            whole("N", 0, 2**50),
            "most memory outside GPUs that one run of a model allocates for results; a request "
            "that needs more is RESOURCE_EXHAUSTED; 0: no limit",
            "bytes",
            default="half of the usable memory, by machine and control group, divided by the "
            "usable cores",
        ),
    )
    load_timeout_seconds: float = field(
        default=300.0,
        metadata=_says(
            OVER_ZERO_SECONDS,
            "most time that loading a model takes; a model that takes longer is not served",
            "seconds",
        ),
    )
    device: str = field(
        default="auto",
        metadata=_says(
            DEVICE,
            "devices that models run on: cpu, cuda (the first GPU), cuda:N, several as cuda:0,1, "
            "or auto: the better of GPU and CPU for each model",
        ),
    )
    gpu_memory_limit: int = field(
        default=0,
        metadata=_says(
            whole("N", 0, 2**50),
            "most memory that one engine on a GPU allocates for weights and results; 0: no limit",
            "bytes",
        ),
    )
    tf32: bool = field(
        default=False,
        metadata=_says(SWITCH, "let GPUs round products to TensorFloat-32: faster, and less exact"),
    )
    shared_memory: bool = field(
        default=False,
        metadata=_says(
            SWITCH, "let clients pass tensors in shared memory; only for clients that are trusted"
        ),
    )
    model_name: str = field(
        default="",
        metadata=_says(MODEL_NAME, "name of the model, where the one path to serve is one model's"),
    )
    model_control: str = field(
        default="none",
        metadata=_says(
            Kind("none|explicit", "none or explicit", str, ("none", "explicit").__contains__),
            "explicit: clients load and unload models, and the start loads those of --load-model",
        ),
    )
    load_model: str = field(
        default="",
        metadata=_says(
            Kind("NAMES", "names separated by commas, or *", str, str.isprintable),
            "with --model-control explicit: models to load at the start, as a,b or *",
        ),
    )
    allow_model_upload: bool = field(
        default=False,
        metadata=_says(
            SWITCH, "with --model-control explicit: let clients send the files of models"
        ),
    )
    allow_log_settings: bool = field(
        default=False,
        metadata=_says(
            SWITCH,
            "let clients change what is logged; always allowed with --model-control explicit",
        ),
    )
    server_name: str = field(
        default="triton",
        metadata=_says(TEXT, "name of the server in the metadata that clients can read"),
    )
    grace_seconds: float = field(
        default=30.0,
        metadata=_says(
            SECONDS, "most time that a stopping server answers accepted requests", "seconds"
        ),
    )
    strict_readiness: bool = field(
        default=True,
        metadata=_says(SWITCH, "be ready when every model is served; false: when any is"),
    )
    exit_on_error: bool = field(
        default=False,
        metadata=_says(SWITCH, "end with an error when any model cannot be served"),
    )
    server_version: str = field(default=__version__, init=False)

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            setting.check(getattr(self, setting.name))
        if self.queue_rows < self.max_batch_size:
            expected = f"at least max_batch_size, which is {self.max_batch_size}"
            raise ConfigError("queue_rows", expected, self.queue_rows)
        if self.model_control == "none":
            for name in ("load_model", "allow_model_upload"):
                if value := getattr(self, name):
                    raise ConfigError(name, "it only where model_control is explicit", value)
        self._check_security()

    @property
    def knows_clients(self) -> bool:
        """Whether clients have to say who they are."""
        return any(getattr(self, name) for name in _IDENTITIES)

    @property
    def risks(self) -> list[str]:
        """Dangers of the network that `insecure` has let in, for people; empty: there are none."""
        if is_loopback(self.host):
            return []
        strangers = (
            [] if self.knows_clients else [f"whoever reaches {self.host} can ask these models"]
        )
        readers = [] if self.tls_certificate else ["requests can be read on their way"]
        return strangers + readers

    def _check_security(self) -> None:
        for name, needed in _NEEDS.items():
            if (value := getattr(self, name)) and not any(getattr(self, one) for one in needed):
                raise ConfigError(name, f"{_flags(needed)} beside it", value)
        if self.jwt_jwks and self.jwt_public_key:
            raise ConfigError("jwt_public_key", "it only without --jwt-jwks", self.jwt_public_key)
        if self.risks and not self.insecure:
            raise ConfigError(
                "host",
                "a loopback address, or TLS (--tls-certificate) and credentials "
                f"({_flags(_IDENTITIES)}) beside it, or --insecure",
                self.host,
            )


# The settings by which clients say who they are.
_IDENTITIES = ("token_file", "jwt_jwks", "jwt_public_key", "tls_client_ca")
# The settings that have a meaning only beside one of others.
_NEEDS = {
    "tls_certificate": ("tls_key",),
    "tls_key": ("tls_certificate",),
    "tls_client_ca": ("tls_certificate",),
    "tls_client_auth": ("tls_client_ca",),
    "http_tls": ("tls_certificate",),
    "jwt_jwks": ("jwt_audience",),
    "jwt_public_key": ("jwt_audience",),
    "jwt_audience": ("jwt_jwks", "jwt_public_key"),
    "jwt_issuer": ("jwt_jwks", "jwt_public_key"),
    "access": _IDENTITIES,
}


def _flags(names: Iterable[str]) -> str:
    return " or ".join("--" + name.replace("_", "-") for name in names)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


SETTINGS = tuple(
    Setting(
        each.name,
        each.metadata["kind"],
        each.metadata["default"] or _written(each.default),
        each.metadata["unit"],
        each.metadata["meaning"],
    )
    for each in fields(ServerConfig)
    if each.metadata
)
