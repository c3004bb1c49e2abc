//! The block `tls { … }`, wherever it stands, and the flags for that of the clients. What is in the files is checked
//! by [`crate::tls`].

use std::path::PathBuf;
use std::time::Duration;

use natterjack_conf::{Data, go_duration};

use crate::configuration::Configuration;
use crate::configuration::codec::{self, PATH, SECONDS, SWITCH, TEXTS};
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::row::{Group, Row, Section, settled};
use crate::configuration::shape::{
    Block, Blocks, Codec, Custom, Unsupported, field, plain, plain_or_default,
};
use crate::options::{HandshakeFirst, KeyPairFiles, Tls, TlsVersion};

use super::flag;

pub(super) static ROWS: &[Row<Configuration>] = &[
    Row::new(
        "tls",
        &Block::<Configuration, _> {
            field: field!(Configuration, options.tls),
            section: &TLS,
        },
        "TLS for clients.",
    ),
    plain!(
        Configuration,
        "allow_non_tls",
        options.allow_non_tls,
        SWITCH,
        "With tls: let clients connect in clear text, too.",
    )
    .restart(),
    flag_row(
        "tls.cert_file",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            set(target, data, reader, |tls, file| tls.cert_file = Some(file));
        }),
    )
    .flag(flag!(
        ["tlscert"],
        "<file>",
        Tls,
        Text,
        "Certificate of this server"
    )),
    flag_row(
        "tls.key_file",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            set(target, data, reader, |tls, file| tls.key_file = Some(file));
        }),
    )
    .flag(flag!(
        ["tlskey"],
        "<file>",
        Tls,
        Text,
        "Private key of the certificate"
    )),
    flag_row(
        "tls.ca_file",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            set(target, data, reader, |tls, file| tls.ca_files = vec![file]);
        }),
    )
    .flag(flag!(
        ["tlscacert"],
        "<file>",
        Tls,
        Text,
        "Authority that clients' certificates must come from"
    )),
    flag_row(
        "tls.verify",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            if let Some(on) = codec::switch(data, reader) {
                target.options.tls.get_or_insert_default().verify = on;
            }
        }),
    )
    .flag(flag!(
        ["tlsverify"],
        "",
        Tls,
        Switch,
        "TLS, and clients must show a certificate"
    )),
    flag_row(
        "tls",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            match codec::switch(data, reader) {
                Some(true) => {
                    target.options.tls.get_or_insert_default();
                }
                Some(false) => target.options.tls = None,
                None => {}
            }
        }),
    )
    .flag(flag!(
        ["tls"],
        "",
        Tls,
        Switch,
        "TLS for clients, with --tlscert and --tlskey; -tls=false: none, whatever the file says"
    )),
];

const fn flag_row(key: &'static str, access: &'static Custom<Configuration>) -> Row<Configuration> {
    Row::new(key, access, "").flag_only()
}

fn set(
    target: &mut Configuration,
    data: &Data,
    reader: &mut Reader<'_>,
    set: fn(&mut Tls, PathBuf),
) {
    if let Some(file) = codec::text(data, reader) {
        set(target.options.tls.get_or_insert_default(), file.into());
    }
}

/// The block.
pub(super) static TLS: Section<Tls> = Section {
    groups: &[Group {
        title: "",
        rows: TLS_ROWS,
    }],
    settle: |tls, reader| {
        if tls.verify_and_map && !tls.verify {
            tls.verify = true;
            reader.share_origin("verify_and_map", &["verify"]);
        }
    },
};

static TLS_ROWS: &[Row<Tls>] = &[
    plain!(
        Tls,
        "cert_file",
        cert_file,
        PATH,
        "Certificate of this server with its chain, PEM.",
    ),
    plain!(
        Tls,
        "key_file",
        key_file,
        PATH,
        "Private key of the certificate, PEM."
    ),
    Row::new(
        "certs",
        &Blocks::<Tls, _, _> {
            field: field!(Tls, certs),
            section: &PAIR,
            finish: |pair: Pair, reader| match (pair.cert_file, pair.key_file) {
                (Some(cert_file), Some(key_file)) => Some(KeyPairFiles {
                    cert_file,
                    key_file,
                }),
                _ => {
                    reader.error("an entry of certs needs both cert_file and key_file");
                    None
                }
            },
            draft: |pair| Pair {
                cert_file: Some(pair.cert_file.clone()),
                key_file: Some(pair.key_file.clone()),
            },
            noun: "certificates",
        },
        "Several certificates, chosen by the name that clients ask for; instead of \
         cert_file and key_file.",
    )
    .alias(&["certificates"]),
    plain!(
        Tls,
        "ca_file",
        ca_files,
        PATHS,
        "Authorities that certificates of clients and peers must come from, PEM; by \
         default the system's.",
    ),
    plain!(
        Tls,
        "verify",
        verify,
        SWITCH,
        "Clients must show a certificate.",
    ),
    plain!(
        Tls,
        "verify_and_map",
        verify_and_map,
        SWITCH,
        "Clients must show a certificate, which says which user they are.",
    )
    .restart(),
    plain!(
        Tls,
        "verify_monitoring",
        verify_monitoring,
        SWITCH,
        "Of the clients' block: whoever reads the monitoring pages over https must show a certificate, too.",
    )
    .ours(),
    plain!(
        Tls,
        "verify_cert_and_check_known_urls",
        verify_cert_and_check_known_urls,
        SWITCH,
        "Of a cluster: a peer's certificate must name a host of the routes.",
    ),
    plain!(
        Tls,
        "insecure",
        insecure,
        SWITCH,
        "Do not verify certificates of servers this one connects to.",
    ),
    plain_or_default!(
        Tls,
        "timeout",
        timeout,
        SECONDS,
        "How long a handshake may take.",
    ),
    plain!(
        Tls,
        "connection_rate_limit",
        connection_rate_limit,
        RATE,
        "Handshakes begun per second; 0 for no bound.",
    )
    .restart(),
    plain!(
        Tls,
        "pinned_certs",
        pinned_certs,
        FINGERPRINTS,
        "SHA-256 of the public keys that are let in, in hexadecimal; none: any.",
    ),
    plain!(
        Tls,
        "cipher_suites",
        cipher_suites,
        NAMES,
        "Cipher suites in the order of preference, by their names in Go; by default all \
         there are.",
    ),
    plain!(
        Tls,
        "curve_preferences",
        curve_preferences,
        NAMES,
        "Curves in the order of preference, by their names in Go; by default all there are.",
    ),
    Row::new(
        "allow_insecure_cipher_suites",
        &Custom::<Tls>::shorthand("true or false", |_, data, reader| {
            if codec::switch(data, reader) == Some(true) {
                reader
                    .note(
                        "allow_insecure_cipher_suites has no effect: there are no \
                           insecure cipher suites here",
                    )
                    .label("has no effect");
            }
        }),
        "Accepted without effect: there are no insecure cipher suites.",
    ),
    plain!(
        Tls,
        "min_version",
        min_version,
        VERSION,
        "The oldest version of TLS that is spoken.",
    ),
    plain!(
        Tls,
        "handshake_first",
        handshake_first,
        HANDSHAKE_FIRST,
        "Begin with the handshake, before INFO: always, never, or for clients that begin \
         it within a time.",
    )
    .alias(&["first", "immediate"]),
    plain!(
        Tls,
        "watch_files",
        watch_files,
        SWITCH,
        "Load certificates again when their files change.",
    )
    .ours(),
    unsupported(
        "ocsp_peer",
        "Proofs that clients' certificates are not revoked.",
    ),
    unsupported("cert_store", "Certificates of the Windows store."),
    unsupported("cert_match", "Which of them."),
    unsupported("cert_match_by", "By what it is found."),
    unsupported(
        "cert_match_skip_invalid",
        "Whether outdated ones are passed over.",
    ),
    unsupported("ca_certs_match", "Authorities of the Windows store."),
];

const fn unsupported(key: &'static str, doc: &'static str) -> Row<Tls> {
    Row::new(
        key,
        &Unsupported {
            kind: "not there yet",
            off: &[],
        },
        doc,
    )
}

/// A certificate and its key while they are read.
#[derive(Default)]
pub(crate) struct Pair {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

static PAIR: Section<Pair> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                Pair,
                "cert_file",
                cert_file,
                PATH,
                "Certificate of this server with its chain, PEM.",
            ),
            plain!(
                Pair,
                "key_file",
                key_file,
                PATH,
                "Private key of the certificate, PEM."
            ),
        ],
    }],
    settle: settled,
};

static PATHS: Codec<Vec<PathBuf>> = Codec {
    kind: "a path or a list of paths",
    read: |data, reader| {
        let texts = codec::texts(data, reader)?;
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        Some(texts.map(PathBuf::from).collect())
    },
    show: |paths| match paths.as_slice() {
        [] => None,
        [path] => Some(codec::quote(&path.to_string_lossy())),
        paths => {
            let texts: Vec<String> = paths
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect();
            codec::show_list(&texts)
        }
    },
    is_secret: false,
};

static RATE: Codec<u64> = Codec {
    kind: "a number, 0 for no bound",
    read: |data, reader| {
        codec::number(data, i64::MIN..=i64::MAX, reader)
            .map(|rate: i64| u64::try_from(rate).unwrap_or(0))
    },
    show: |rate| Some(rate.to_string()),
    is_secret: false,
};

static NAMES: Codec<Vec<String>> = Codec {
    kind: "a list of names",
    read: |data, reader| match data {
        Data::List(values) if values.is_empty() => {
            let name = reader.name().to_owned();
            reader
                .error(format!("{name} must not be empty"))
                .help("leave it out for the default");
            None
        }
        Data::List(values) => Some(codec::each(values, reader, codec::text)),
        other => {
            reader.expected("a list of names", other);
            None
        }
    },
    show: TEXTS.show,
    is_secret: false,
};

static FINGERPRINTS: Codec<Vec<String>> = Codec {
    kind: "a list of texts",
    read: |data, reader| match data {
        Data::List(values) => Some(codec::each(values, reader, codec::text)),
        other => {
            reader.expected("a list of texts", other);
            None
        }
    },
    show: TEXTS.show,
    is_secret: false,
};

const VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

static VERSION: Codec<TlsVersion> = Codec {
    kind: "\"1.2\" or \"1.3\"",
    read: |data, reader| {
        if let Data::Float(_) = data {
            reader
                .expected("\"1.2\" or \"1.3\"", data)
                .help("put it in quotes");
            return None;
        }
        codec::choice(data, VERSIONS, reader)
    },
    show: |version| codec::word_of(version, VERSIONS),
    is_secret: false,
};

static HANDSHAKE_FIRST: Codec<HandshakeFirst> = Codec {
    kind: "true or false, auto, or a duration",
    read: |data, reader| match data {
        Data::Bool(on) => Some(if *on {
            HandshakeFirst::Yes
        } else {
            HandshakeFirst::No
        }),
        Data::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "on" => Some(HandshakeFirst::Yes),
            "false" | "off" => Some(HandshakeFirst::No),
            "auto" | "auto_fallback" => Some(HandshakeFirst::AUTO),
            _ => match go_duration::parse(text) {
                Ok(Duration::ZERO) => Some(HandshakeFirst::Yes),
                Ok(within) => Some(HandshakeFirst::Within(within)),
                Err(problem) => {
                    let name = reader.name().to_owned();
                    reader
                        .error(format!(
                            "{name} must be true, false, auto or a duration, which \
                             {text:?} is not"
                        ))
                        .help(problem.to_string());
                    None
                }
            },
        },
        other => {
            reader.expected("true, false, auto or a duration", other);
            None
        }
    },
    show: |first| {
        Some(match *first {
            HandshakeFirst::No => "false".to_owned(),
            HandshakeFirst::Yes => "true".to_owned(),
            first if first == HandshakeFirst::AUTO => "auto".to_owned(),
            HandshakeFirst::Within(within) => codec::show_duration(within),
        })
    },
    is_secret: false,
};
