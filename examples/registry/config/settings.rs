//! Every setting, once: its key, kind, default and what it is for.
//!
//! Flags, environment variables, the file's keys, `config example` and `config show` are all made from this one table, so that none can miss a setting.

/// How a setting's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text; empty means "not set".
    Text,
    /// A duration such as `24h`.
    Duration,
    /// A size such as `4MiB`.
    Size,
    /// A whole number.
    Count,
    /// `true` or `false`.
    Switch,
    /// Words: in the file an array of texts, else divided by commas or spaces.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that is never printed; `<key>_file` may name a file that holds it.
    Secret,
}

/// A setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The key in the file, with its table: `gc.interval`.
    pub(crate) key: &'static str,
    /// How it is read.
    pub(crate) kind: Kind,
    /// What holds when nothing is given.
    pub(crate) default: &'static str,
    /// What stands for the value in `--help`.
    pub(crate) value_name: &'static str,
    /// What it does; the first line is the short help.
    pub(crate) help: &'static str,
}

impl Setting {
    /// The flag, without the dashes in front.
    pub(crate) fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("REGISTRY_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The table of the file it is in, and its name there.
    pub(crate) fn table_and_name(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// The heading it stands under in `--help`.
    pub(crate) fn heading(&self) -> &'static str {
        match self.table_and_name().0 {
            _ if ["storage_preference", "closest", "hedge_after"].contains(&self.key) => "Zones",
            "replication" => "Replication",
            "metadata" => "Database",
            "gc" => "Garbage collection",
            "http" => "HTTP",
            "tls" => "TLS",
            "auth" => "Log-in",
            _ => "Server",
        }
    }
}

/// The settings, in the order they are told of. What has no table comes first, as TOML wants it.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        kind: Kind::Text,
        default: "127.0.0.1:5000",
        value_name: "ADDR",
        help: "The address to serve on.\nUse 0.0.0.0:5000 to be reached from other machines, and port 0 for any free one.",
    },
    Setting {
        key: "data",
        kind: Kind::Text,
        default: "./data",
        value_name: "DIR",
        help: "The directory of everything that is stored, unless a zone or the database says otherwise.\n\
               It is made if it is not there. A relative path starts at the working directory.",
    },
    Setting {
        key: "admin",
        kind: Kind::Text,
        default: "",
        value_name: "ADDR",
        help: "The address of the admin listener: /healthz, /readyz and /metrics. Off when empty.\n\
               It asks nobody who they are: keep it on the loopback (127.0.0.1:5001) or an inner network.",
    },
    Setting {
        key: "read_only",
        kind: Kind::Switch,
        default: "false",
        value_name: "BOOL",
        help: "Refuse pushes and deletes, and collect no garbage.\nWhat is owed to a zone is copied all the same.",
    },
    Setting {
        key: "allow_plain_http",
        kind: Kind::Switch,
        default: "false",
        value_name: "BOOL",
        help: "Serve without TLS where other machines can reach it: images and passwords can be read and changed on the way.\n\
               For a proxy in front that speaks TLS. On the loopback no leave is needed.",
    },
    Setting {
        key: "ca_file",
        kind: Kind::Text,
        default: "",
        value_name: "FILE",
        help: "A PEM file with certificates of authorities that are trusted, besides the system's, wherever this program connects to.",
    },
    Setting {
        key: "storage_preference",
        kind: Kind::List,
        default: "",
        value_name: "ZONES",
        help: "Which zones are the closest, closest first; the order of the zones when empty, and for those that it does not name.\n\
               Pushes go to the first that works, pulls come from the first that has the blob.\n\
               QUAY_DISTRIBUTED_STORAGE_PREFERENCE means the same where REGISTRY_STORAGE_PREFERENCE is not set.",
    },
    Setting {
        key: "closest",
        kind: Kind::Choice(&["preference", "measured"]),
        default: "preference",
        value_name: "WORD",
        help: "What makes a zone the closest: its place in storage_preference, or that it has been the quickest to answer of late.",
    },
    Setting {
        key: "hedge_after",
        kind: Kind::Duration,
        default: "0",
        value_name: "TIME",
        help: "When to ask the next zone for a blob too, if the closest has not sent a byte of it; 0 is never.",
    },
    Setting {
        key: "max_manifest_size",
        kind: Kind::Size,
        default: "4MiB",
        value_name: "SIZE",
        help: "The largest manifest to accept.\nClients may count on 4 MiB (distribution-spec); each one is held in memory while it is pushed.",
    },
    Setting {
        key: "sparse_indexes",
        kind: Kind::Switch,
        default: "false",
        value_name: "BOOL",
        help: "Accept multi-platform indexes of which not every manifest was pushed.",
    },
    Setting {
        key: "upload_memory",
        kind: Kind::Size,
        default: "256MiB",
        value_name: "SIZE",
        help: "How much of all uploads to zones in object stores may be in memory at once, copies to them included. More waits.",
    },
    Setting {
        key: "shutdown_timeout",
        kind: Kind::Duration,
        default: "30s",
        value_name: "TIME",
        help: "How long requests in progress may take to end after SIGTERM or SIGINT.\nA second signal ends the process at once.",
    },
    Setting {
        key: "worker_threads",
        kind: Kind::Count,
        default: "0",
        value_name: "N",
        help: "Threads that serve requests; 0 is one per CPU.",
    },
    Setting {
        key: "log",
        kind: Kind::Text,
        default: "info",
        value_name: "FILTER",
        help: "What to log: error, warn, info, debug, trace, or by module, such as \"info,registry_http=debug\".\n\
               RUST_LOG means the same where REGISTRY_LOG is not set. Logs go to standard error.",
    },
    Setting {
        key: "log_format",
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        value_name: "FORMAT",
        help: "How to log: text for people, json for machines (one object a line).",
    },
    Setting {
        key: "metadata.url",
        kind: Kind::Secret,
        default: "",
        value_name: "URL",
        help: "The database: sqlite:PATH, or postgres://USER:PASSWORD@HOST/DATABASE. When empty: SQLite in the data directory.\n\
               With ?sslmode=require behind it, PostgreSQL is spoken to by TLS, and its certificate is checked (ca_file); without, in the clear.\n\
               Several servers that share one database must share their zones too.",
    },
    Setting {
        key: "metadata.schema",
        kind: Kind::Text,
        default: "",
        value_name: "NAME",
        help: "The schema of a PostgreSQL database that the tables are in, made if it is not there; the connection's own when empty.",
    },
    Setting {
        key: "metadata.connections",
        kind: Kind::Count,
        default: "8",
        value_name: "N",
        help: "How many queries may read from the database at once.",
    },
    Setting {
        key: "metadata.durability",
        kind: Kind::Choice(&["power-loss", "process-crash"]),
        default: "power-loss",
        value_name: "WORD",
        help: "What an acknowledged change survives. process-crash is faster: nothing waits for the disk.",
    },
    Setting {
        key: "tls.certificate",
        kind: Kind::Text,
        default: "",
        value_name: "FILE",
        help: "A PEM file with the server's certificate, those between it and its authority behind it. Without one there is no TLS.\n\
               `registry certs` makes one. When the file changes, new connections get the new one; nothing has to be restarted.",
    },
    Setting { key: "tls.key", kind: Kind::Text, default: "", value_name: "FILE", help: "A PEM file with the certificate's private key." },
    Setting {
        key: "auth.users",
        kind: Kind::Text,
        default: "",
        value_name: "FILE",
        help: "The users, in the form of Apache's htpasswd with bcrypt; users in the data directory when empty. `registry user` changes it.\n\
               As long as there is no such file in the data directory, nobody has to log in; one that is named here has to be there.\n\
               Servers that are to know the same users need the same file.",
    },
    Setting {
        key: "auth.token_keys",
        kind: Kind::Text,
        default: "",
        value_name: "DIR",
        help: "The keys that tokens are signed with; token-keys in the data directory when empty. It is made, with a key, if it is not there.\n\
               Servers behind one name need the same directory, to accept each other's tokens; copies of it do with key_lifetime = \"0\". Each is an Ed25519 key in a file that ends with .pem.",
    },
    Setting {
        key: "auth.service",
        kind: Kind::Text,
        default: "registry",
        value_name: "NAME",
        help: "What the registry is called in tokens. The same in all servers behind one name; another where another registry has the same keys.",
    },
    Setting {
        key: "auth.token_lifetime",
        kind: Kind::Duration,
        default: "5m",
        value_name: "TIME",
        help: "How long a token is good, from one minute to an hour. What has begun in that time ends, however long it takes.",
    },
    Setting {
        key: "auth.key_lifetime",
        kind: Kind::Duration,
        default: "30d",
        value_name: "TIME",
        help: "After how long another key for tokens is made; 0 is never. The old one is removed when its last token has ended.",
    },
    Setting {
        key: "auth.requests_per_second",
        kind: Kind::Count,
        default: "0",
        value_name: "N",
        help: "How many requests a second one user may make, or one address without a user, where anybody has to log in. 0 is no limit.\n\
               For a moment it may be ten times as many; more are answered 429. A push of an image makes some requests for each layer.",
    },
    Setting {
        key: "auth.failures_per_minute",
        kind: Kind::Count,
        default: "30",
        value_name: "N",
        help: "How many log-ins a minute may fail from one address before none is tried from there for a while. 0 is no limit.\n\
               Behind a proxy all clients have one address: set it higher there, and let the proxy limit them.",
    },
    Setting {
        key: "auth.audit",
        kind: Kind::Text,
        default: "",
        value_name: "FILE",
        help: "A file to which each push, delete, log-in and refusal is appended as a line of JSON. They are in the log in any case.",
    },
    Setting {
        key: "http.trust_forwarded_headers",
        kind: Kind::Switch,
        default: "false",
        value_name: "BOOL",
        help: "Make Location and Link absolute as a reverse proxy says (Forwarded, X-Forwarded-Proto, -Host, -Prefix).\n\
               Only if the proxy removes what clients send in these headers. Otherwise they are relative, which works behind most proxies.",
    },
    Setting {
        key: "http.public_url",
        kind: Kind::Text,
        default: "",
        value_name: "URL",
        help: "What clients call the registry, such as https://registry.example.com: those that have to log in are sent there.\n\
               When empty it is as they ask, by https unless they ask for the loopback without TLS. Needed where log-ins go without TLS over a network.",
    },
    Setting {
        key: "http.body_idle_timeout",
        kind: Kind::Duration,
        default: "60s",
        value_name: "TIME",
        help: "How long a client that is pushing may send nothing. What arrived of an upload is kept, and can be continued.",
    },
    Setting {
        key: "http.write_idle_timeout",
        kind: Kind::Duration,
        default: "5m",
        value_name: "TIME",
        help: "How long a client that is pulling may take in nothing.",
    },
    Setting {
        key: "http.keep_alive",
        kind: Kind::Duration,
        default: "2m",
        value_name: "TIME",
        help: "How long a connection may idle between two requests.",
    },
    Setting {
        key: "http.prefer_http2",
        kind: Kind::Switch,
        default: "false",
        value_name: "BOOL",
        help: "Speak HTTP/2 with clients that speak both, over TLS. HTTP/1.1 takes less CPU time for large blobs.",
    },
    Setting {
        key: "http.max_connections",
        kind: Kind::Count,
        default: "4096",
        value_name: "N",
        help: "The most connections at once; more wait until one ends.",
    },
    Setting {
        key: "http.max_in_flight",
        kind: Kind::Count,
        default: "0",
        value_name: "N",
        help: "The most requests at once; more are answered 429. 0 is no limit.",
    },
    Setting {
        key: "http.redirect",
        kind: Kind::Duration,
        default: "0",
        value_name: "TIME",
        help: "Send pulls of blobs to the storage itself, by an address that is good for this long; 0 is never.\n\
               It is for zones that have such addresses, as one in Swift with a temp_url_key has, and for copies that were verified.\n\
               Clients must be able to reach the storage. What they get there is not verified by this server.",
    },
    Setting {
        key: "gc.interval",
        kind: Kind::Duration,
        default: "1h",
        value_name: "TIME",
        help: "How often to collect garbage in the background, give or take a tenth; 0 is never.\n\
               `registry gc` does it now, beside a running server.",
    },
    Setting {
        key: "gc.grace",
        kind: Kind::Duration,
        default: "24h",
        value_name: "TIME",
        help: "How long a blob that no manifest needs stays after a client was last told that it is there.\n\
               It must be longer than any push takes, and the same in all servers over one database.",
    },
    Setting {
        key: "gc.trash_delay",
        kind: Kind::Duration,
        default: "1h",
        value_name: "TIME",
        help: "How long the bytes of a blob that no repository holds are kept before they are deleted.",
    },
    Setting {
        key: "gc.upload_expiry",
        kind: Kind::Duration,
        default: "24h",
        value_name: "TIME",
        help: "How long an upload that nobody continues is kept.",
    },
    Setting {
        key: "replication.request_timeout",
        kind: Kind::Duration,
        default: "10s",
        value_name: "TIME",
        help: "How long a zone may take to answer a small request, and to begin an answer; then the next zone is asked.",
    },
    Setting {
        key: "replication.stall_timeout",
        kind: Kind::Duration,
        default: "15s",
        value_name: "TIME",
        help: "How long a zone may send nothing in the middle of a blob before the next goes on. There is no limit to how long all of it takes.",
    },
    Setting {
        key: "replication.probe_interval",
        kind: Kind::Duration,
        default: "30s",
        value_name: "TIME",
        help: "How often each zone is asked whether it is still the one it was. One that fails is asked sooner.",
    },
    Setting {
        key: "replication.poll_interval",
        kind: Kind::Duration,
        default: "2s",
        value_name: "TIME",
        help: "How often to look for blobs that other servers and commands left to be copied. Those of this server are copied at once.",
    },
    Setting {
        key: "replication.lease",
        kind: Kind::Duration,
        default: "1m",
        value_name: "TIME",
        help: "After how long another server takes over the copies of one that has died.",
    },
    Setting {
        key: "replication.reconcile_interval",
        kind: Kind::Duration,
        default: "1h",
        value_name: "TIME",
        help: "How often to compare where blobs are with where the policies want them. It is also done soon after each start.",
    },
    Setting {
        key: "replication.narrow_after",
        kind: Kind::Duration,
        default: "10m",
        value_name: "TIME",
        help: "How long a blob that was just pushed or referred to stays where no policy wants it any more.",
    },
    Setting {
        key: "replication.trash_delay",
        kind: Kind::Duration,
        default: "0",
        value_name: "TIME",
        help: "How long copies that are not wanted any more are kept, on top of gc.trash_delay for those of deleted blobs.",
    },
    Setting {
        key: "replication.lag_alert",
        kind: Kind::Duration,
        default: "15m",
        value_name: "TIME",
        help: "How long a zone may be owed a copy before that is logged as a warning and told as an event. 0: never.",
    },
    Setting {
        key: "replication.events",
        kind: Kind::Text,
        default: "",
        value_name: "FILE",
        help: "A file to which each event is appended as a line of JSON (CloudEvents 1.0).\n\
               replicated, repaired, corrupt, missing, late, in_time, zone_down, zone_up, filled, drained, removed, job_failed.",
    },
    Setting {
        key: "replication.background_share",
        kind: Kind::Text,
        default: "0.5",
        value_name: "SHARE",
        help: "Which share of its time a comparison or a scrub works, above 0 and up to 1. The rest it leaves the zone to others.",
    },
    Setting {
        key: "replication.compare_interval",
        kind: Kind::Duration,
        default: "7d",
        value_name: "TIME",
        help: "How often to compare what is in each zone with the database, in the background: give or take a sixth. 0: never.\n\
               `registry reconcile` does it now.",
    },
    Setting {
        key: "replication.scrub_interval",
        kind: Kind::Duration,
        default: "30d",
        value_name: "TIME",
        help: "How often to read all that is stored, in the background, to find what has rotted: give or take a sixth. 0: never.",
    },
    Setting {
        key: "replication.keep_unknown",
        kind: Kind::Duration,
        default: "1d",
        value_name: "TIME",
        help: "How long a blob that is in a zone and that nobody knows is left there by 'registry reconcile'.",
    },
];

/// The setting of this key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
