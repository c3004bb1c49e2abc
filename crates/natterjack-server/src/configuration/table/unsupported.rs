//! What nats-server has and this server does not have yet. Nothing of it is ignored: an option is accepted only where
//! it switches off what is not there.

use crate::configuration::Configuration;
use crate::configuration::row::Row;
use crate::configuration::shape::Unsupported;

use super::flag;

const fn row(
    key: &'static str,
    access: &'static Unsupported,
    doc: &'static str,
) -> Row<Configuration> {
    Row::new(key, access, doc).restart()
}

static SWITCH: Unsupported = Unsupported {
    kind: "true or false",
    off: &[],
};
static BLOCK: Unsupported = Unsupported {
    kind: "a block",
    off: &["disabled", "disable"],
};
static TEXT: Unsupported = Unsupported {
    kind: "a text",
    off: &[],
};
static TEXTS: Unsupported = Unsupported {
    kind: "a text or a list of texts",
    off: &[],
};
static NUMBER: Unsupported = Unsupported {
    kind: "a number",
    off: &[],
};

pub(super) static ROWS: &[Row<Configuration>] = &[
    row("jetstream", &BLOCK, "Streams.").flag(flag!(
        ["js", "jetstream"],
        "",
        Unsupported,
        Switch,
        "Streams"
    )),
    row("store_dir", &TEXT, "Folder of the streams.")
        .alias(&["storedir"])
        .flag(flag!(
            ["sd", "store_dir"],
            "<folder>",
            Unsupported,
            Text,
            "Folder of the streams"
        )),
    row(
        "default_js_domain",
        &BLOCK,
        "Domains of streams by account.",
    ),
    row("leafnodes", &BLOCK, "Leaf nodes.").alias(&["leaf"]),
    row("gateway", &BLOCK, "Clusters of clusters."),
    row("websocket", &BLOCK, "Clients over WebSocket.").alias(&["ws"]),
    row("mqtt", &BLOCK, "MQTT clients."),
    row(
        "operator",
        &TEXTS,
        "Accounts that are signed by an operator.",
    )
    .alias(&[
        "operators",
        "root",
        "roots",
        "root_operator",
        "root_operators",
    ]),
    row("resolver", &TEXT, "Where signed accounts are looked up.")
        .alias(&["account_resolver", "accounts_resolver"]),
    row("resolver_preload", &BLOCK, "Signed accounts."),
    row(
        "resolver_pinned_accounts",
        &TEXTS,
        "Accounts that are always looked up.",
    ),
    row("resolver_tls", &BLOCK, "TLS of the resolver."),
    row("trusted_keys", &TEXTS, "Public keys of operators.").alias(&["trusted"]),
    row(
        "default_sentinel",
        &TEXT,
        "Identity of clients that show none.",
    ),
    row("ocsp", &BLOCK, "Proofs that certificates are not revoked."),
    row("ocsp_cache", &BLOCK, "Where those proofs are kept."),
    row(
        "proxy_protocol",
        &SWITCH,
        "Addresses of clients as proxies tell them.",
    ),
    row("proxies", &BLOCK, "Proxies that sign for their clients."),
    row(
        "feature_flags",
        &BLOCK,
        "Switches for what is tried out in nats-server.",
    ),
    row("prof_port", &NUMBER, "The profiler of the Go language.").flag(flag!(
        ["profile"],
        "<port>",
        Unsupported,
        Number,
        "The profiler of the Go language"
    )),
    row("prof_block_rate", &NUMBER, "What that profiler records."),
];
