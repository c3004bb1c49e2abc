//! Who comes in, and as whom: a table of configurations and of attempts to log in, with keys that sign and certificates
//! that name. What needs neither is in `conversations/access_*.txt`.
//!
//! Every user stands in an account of its own, so that the account a client is told says which user it is.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use libtest_mimic::Trial;
use nkeys::{KeyPair, KeyPairType};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use serde_json::Value;
use testkit::{Kind, ServerUnderTest};

use super::authority::{MUTUAL, Pair, TLS, config, impostor, named, self_signed, text, trusted};
use super::client::{Client, Outcome, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for make in [keys, certificates, secrets] {
        for (at, case) in make().into_iter().enumerate() {
            for kind in Kind::ALL {
                let name = case.name.replace(' ', "_");
                let name = format!("access::logins::{name}::{}", kind.name());
                let run = move || make().swap_remove(at).play(kind);
                trials.push(trial(name, [kind.program().map(drop)], run));
            }
        }
    }
    trials
}

struct Case {
    name: &'static str,
    config: String,
    attempts: Vec<Attempt>,
}

struct Attempt {
    what: String,
    is_tls: bool,
    pair: Option<Pair>,
    fields: Fields,
    expected: Outcome,
}

/// The fields of `CONNECT`, made of the nonce.
type Fields = Box<dyn Fn(&str) -> String>;

impl Case {
    fn play(self, kind: Kind) {
        let server = ServerUnderTest::start(kind, &config(&self.config));
        let mut departures = String::new();
        for attempt in self.attempts {
            let transport = if attempt.is_tls {
                Transport::Tls(attempt.pair.as_ref())
            } else {
                Transport::Plain
            };
            let mut client = Client::connect(server.address(), transport);
            let nonce = client.info["nonce"].as_str().unwrap_or_default();
            let fields = (attempt.fields)(nonce);
            let found = client.log_in(&fields);
            if found != attempt.expected {
                departures += &format!(
                    "{}: {found:?}, expected {:?}\n",
                    attempt.what, attempt.expected
                );
            }
        }
        assert_eq!(departures, "", "--- the server's log:\n{}", server.log());
    }
}

fn let_in(account: &str) -> Outcome {
    Outcome::In(account.to_owned())
}

fn violation() -> Outcome {
    Outcome::Refused("Authorization Violation".to_owned())
}

/// An attempt in clear text.
fn with(fields: &str, expected: Outcome) -> Attempt {
    let owned = fields.to_owned();
    Attempt {
        what: fields.to_owned(),
        is_tls: false,
        pair: None,
        fields: Box::new(move |_| owned.clone()),
        expected,
    }
}

fn signing(what: &str, expected: Outcome, fields: impl Fn(&str) -> String + 'static) -> Attempt {
    Attempt {
        what: what.to_owned(),
        fields: Box::new(fields),
        ..with("", expected)
    }
}

/// An attempt with TLS, and a certificate if there is one.
fn over_tls(what: &str, pair: Option<Pair>, fields: &str, expected: Outcome) -> Attempt {
    Attempt {
        what: what.to_owned(),
        is_tls: true,
        pair,
        ..with(fields, expected)
    }
}

fn key(role: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(role, [number; 32]).expect("any bytes make a key")
}

fn user_key(number: u8) -> KeyPair {
    key(KeyPairType::User, number)
}

fn signed(pair: &KeyPair, text: &[u8]) -> Vec<u8> {
    pair.sign(text).expect("the pair has its seed")
}

fn proof(key: &str, signature: &str) -> String {
    format!("\"nkey\":\"{key}\",\"sig\":\"{signature}\"")
}

/// What the owner of a key says.
fn owner(number: u8) -> impl Fn(&str) -> String {
    move |nonce| {
        let pair = user_key(number);
        let signature = BASE64URL_NOPAD.encode(&signed(&pair, nonce.as_bytes()));
        proof(&pair.public_key(), &signature)
    }
}

fn keys() -> Vec<Case> {
    let [one, two, three] = [1, 2, 3].map(|number| user_key(number).public_key());
    let mixed = format!(
        "accounts {{ K {{ users: [ {{ nkey: {one} }} ] }}, L {{ users: [ {{ nkey: {two} }} ] }}
         P {{ users: [ {{ user: ann, password: pw }} ] }} }}"
    );
    let ann = "\"user\":\"ann\",\"pass\":\"pw\"";
    vec![
        Case {
            name: "owners of keys",
            config: mixed.clone(),
            attempts: vec![
                signing("the first", let_in("K"), owner(1)),
                signing("the second", let_in("L"), owner(2)),
                signing("nobody the server knows", violation(), owner(3)),
                with(ann, let_in("P")),
                with("", violation()),
            ],
        },
        Case {
            name: "forms of signatures",
            config: mixed.clone(),
            attempts: vec![
                signing("base 64 with padding", let_in("K"), |nonce| {
                    let pair = user_key(1);
                    proof(
                        &pair.public_key(),
                        &BASE64.encode(&signed(&pair, nonce.as_bytes())),
                    )
                }),
                signing("base 64 for URLs, cut", violation(), |nonce| {
                    let pair = user_key(1);
                    let text = BASE64URL_NOPAD.encode(&signed(&pair, nonce.as_bytes()));
                    proof(&pair.public_key(), &text[..text.len() - 2])
                }),
                signing("63 bytes", violation(), |nonce| {
                    let pair = user_key(1);
                    let bytes = signed(&pair, nonce.as_bytes());
                    proof(&pair.public_key(), &BASE64URL_NOPAD.encode(&bytes[..63]))
                }),
                signing("65 bytes", violation(), |nonce| {
                    let pair = user_key(1);
                    let mut bytes = signed(&pair, nonce.as_bytes());
                    bytes.push(0);
                    proof(&pair.public_key(), &BASE64URL_NOPAD.encode(&bytes))
                }),
                signing("64 zeros", violation(), |_| {
                    proof(
                        &user_key(1).public_key(),
                        &BASE64URL_NOPAD.encode(&[0; 64]),
                    )
                }),
                signing("none", violation(), |_| {
                    format!("\"nkey\":\"{}\"", user_key(1).public_key())
                }),
                signing("an empty one", violation(), |_| {
                    proof(&user_key(1).public_key(), "")
                }),
                signing("no base 64", violation(), |_| {
                    proof(&user_key(1).public_key(), "!!!!")
                }),
                signing("almost as long as a line may be", violation(), |_| {
                    proof(&user_key(1).public_key(), &"A".repeat(3_000))
                }),
            ],
        },
        Case {
            name: "what must be signed",
            config: mixed.clone(),
            attempts: vec![
                signing("the nonce's bytes instead of its text", violation(), |nonce| {
                    let bytes = BASE64URL_NOPAD.decode(nonce.as_bytes());
                    let pair = user_key(1);
                    let signature = signed(&pair, &bytes.expect("a nonce in base 64"));
                    proof(&pair.public_key(), &BASE64URL_NOPAD.encode(&signature))
                }),
                signing("another nonce", violation(), |_| {
                    let pair = user_key(1);
                    let signature = signed(&pair, b"AQEBAQEBAQEBAQE");
                    proof(&pair.public_key(), &BASE64URL_NOPAD.encode(&signature))
                }),
                signing("nothing", violation(), |_| {
                    let pair = user_key(1);
                    proof(&pair.public_key(), &BASE64URL_NOPAD.encode(&signed(&pair, b"")))
                }),
                signing("by another's key", violation(), |nonce| {
                    let signature = signed(&user_key(2), nonce.as_bytes());
                    proof(
                        &user_key(1).public_key(),
                        &BASE64URL_NOPAD.encode(&signature),
                    )
                }),
            ],
        },
        Case {
            name: "forms of keys",
            config: mixed,
            attempts: vec![
                signing("the seed in the place of the key", violation(), |nonce| {
                    let pair = user_key(1);
                    let signature = BASE64URL_NOPAD.encode(&signed(&pair, nonce.as_bytes()));
                    proof(&pair.seed().expect("a seed"), &signature)
                }),
                signing("the same key as an account's", violation(), |nonce| {
                    let pair = key(KeyPairType::Account, 1);
                    let signature = BASE64URL_NOPAD.encode(&signed(&pair, nonce.as_bytes()));
                    proof(&pair.public_key(), &signature)
                }),
                signing("in small letters", violation(), |nonce| {
                    let pair = user_key(1);
                    let signature = BASE64URL_NOPAD.encode(&signed(&pair, nonce.as_bytes()));
                    proof(&pair.public_key().to_lowercase(), &signature)
                }),
                signing("with a user's right password beside it", violation(), |_| {
                    format!("\"nkey\":\"UABC\",\"sig\":\"AAAA\",{}", r#""user":"ann","pass":"pw""#)
                }),
                signing("with a wrong password beside it", let_in("K"), |nonce| {
                    format!("{},\"user\":\"ann\",\"pass\":\"no\"", owner(1)(nonce))
                }),
                signing("a signature without a key, and a password", let_in("P"), |nonce| {
                    let signature = signed(&user_key(1), nonce.as_bytes());
                    let signature = BASE64URL_NOPAD.encode(&signature);
                    format!("\"sig\":\"{signature}\",\"user\":\"ann\",\"pass\":\"pw\"")
                }),
                signing("the key as a user's name", violation(), |_| {
                    format!("\"user\":\"{}\"", user_key(1).public_key())
                }),
                signing("the key as a token", violation(), |_| {
                    format!("\"auth_token\":\"{}\"", user_key(1).public_key())
                }),
            ],
        },
        Case {
            name: "keys in an authorization block",
            config: format!(
                "authorization {{ users: [ {{ nkey: {one} }}, {{ user: ann, password: pw }} ] }}"
            ),
            attempts: vec![
                signing("the owner", let_in("$G"), owner(1)),
                signing("another", violation(), owner(2)),
                with(ann, let_in("$G")),
            ],
        },
        Case {
            name: "a key for those without credentials",
            config: format!(
                "accounts {{ K {{ users: [ {{ nkey: {one} }} ] }}, L {{ users: [ {{ nkey: {two} }} ] }} }}
                 no_auth_user: {two}"
            ),
            attempts: vec![
                with("", let_in("L")),
                signing("the owner of the other", let_in("K"), owner(1)),
                signing("the owner of the same", let_in("L"), owner(2)),
                signing("nobody's", violation(), owner(3)),
                signing("nor need its owner sign", let_in("L"), |_| {
                    format!("\"nkey\":\"{}\"", user_key(2).public_key())
                }),
            ],
        },
        Case {
            name: "keys for kinds of connections",
            config: format!(
                "accounts {{
                   K {{ users: [ {{ nkey: {one}, allowed_connection_types: [STANDARD, MQTT] }} ] }}
                   L {{ users: [ {{ nkey: {two}, allowed_connection_types: [WEBSOCKET] }} ] }}
                   M {{ users: [ {{ nkey: {three}, allowed_connection_types: [\"standard\"] }} ] }} }}"
            ),
            attempts: vec![
                signing("for sockets", let_in("K"), owner(1)),
                signing("for browsers", violation(), owner(2)),
                signing("in small letters", let_in("M"), owner(3)),
            ],
        },
        Case {
            name: "keys over tls",
            config: format!(
                "tls {{ {TLS} }}
                 accounts {{ K {{ users: [ {{ nkey: {one} }} ] }} }}"
            ),
            attempts: vec![
                Attempt {
                    is_tls: true,
                    ..signing("the owner", let_in("K"), owner(1))
                },
                Attempt {
                    is_tls: true,
                    ..signing("another", violation(), owner(2))
                },
            ],
        },
    ]
}

/// A certificate of the trusted authority.
fn pair(change: impl FnOnce(&mut CertificateParams)) -> Option<Pair> {
    Some(trusted().pair(change))
}

fn subject(parts: &[(DnType, &str)]) -> Option<Pair> {
    pair(|params| {
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
    })
}

fn alternatives(names: &[SanType]) -> Option<Pair> {
    pair(|params| {
        named("nobody")(params);
        params.subject_alt_names = names.to_vec();
    })
}

fn email(name: &str) -> SanType {
    SanType::Rfc822Name(text(name))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(text(name))
}

fn uri(name: &str) -> SanType {
    SanType::URI(text(name))
}

const CN: DnType = DnType::CommonName;
const O: DnType = DnType::OrganizationName;
const OU: DnType = DnType::OrganizationalUnitName;
const C: DnType = DnType::CountryName;

/// `0.9.2342.19200300.100.1.25`
fn domain_component() -> DnType {
    DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25])
}

fn mapped(users: &[(&str, &str)]) -> String {
    let accounts: String = users
        .iter()
        .map(|(account, user)| format!("{account} {{ users: [ {{ user: \"{user}\" }} ] }}\n"))
        .collect();
    format!("tls {{ {MUTUAL}, verify_and_map: true }}\naccounts {{ {accounts} }}")
}

fn certificates() -> Vec<Case> {
    let names = [
        ("E", "ann@example.com"),
        ("D", "host.example.com"),
        ("U", "spiffe://example.com/app"),
        ("S", "CN=ann,O=Acme"),
    ];
    vec![
        Case {
            name: "names in certificates",
            config: mapped(&names),
            attempts: vec![
                over_tls("an e-mail address", alternatives(&[email("ann@example.com")]), "", let_in("E")),
                over_tls("a name of a host", alternatives(&[dns("host.example.com")]), "", let_in("D")),
                over_tls("a URI", alternatives(&[uri("spiffe://example.com/app")]), "", let_in("U")),
                over_tls("a subject", subject(&[(O, "Acme"), (CN, "ann")]), "", let_in("S")),
                over_tls("the second address", alternatives(&[email("bob@example.com"), email("ann@example.com")]), "", let_in("E")),
                over_tls("the second host", alternatives(&[dns("other.example.com"), dns("host.example.com")]), "", let_in("D")),
                over_tls("nobody's", alternatives(&[email("bob@example.com"), dns("x"), uri("spiffe://x")]), "", violation()),
                over_tls("no name at all", pair(|_| {}), "", violation()),
            ],
        },
        Case {
            name: "which name counts",
            config: mapped(&names),
            attempts: vec![
                over_tls("address before host", alternatives(&[dns("host.example.com"), email("ann@example.com")]), "", let_in("E")),
                over_tls("host before URI", alternatives(&[uri("spiffe://example.com/app"), dns("host.example.com")]), "", let_in("D")),
                over_tls("URI before subject", pair(|params| {
                    params.distinguished_name.push(O, "Acme");
                    params.distinguished_name.push(CN, "ann");
                    params.subject_alt_names = vec![uri("spiffe://example.com/app")];
                }), "", let_in("U")),
                over_tls("subject if the others are unknown", pair(|params| {
                    params.distinguished_name.push(O, "Acme");
                    params.distinguished_name.push(CN, "ann");
                    params.subject_alt_names = vec![email("x@y"), dns("z"), uri("spiffe://q")];
                }), "", let_in("S")),
                // Users have no kinds: a name is a name, and the authority answers for its kind.
                over_tls("an address as a host", alternatives(&[dns("ann@example.com")]), "", let_in("E")),
                over_tls("a host as an address", alternatives(&[email("host.example.com")]), "", let_in("D")),
            ],
        },
        Case {
            name: "names must be exact",
            config: mapped(&names),
            attempts: vec![
                over_tls("capitals in an address", alternatives(&[email("Ann@example.com")]), "", violation()),
                over_tls("capitals in a host", alternatives(&[dns("HOST.example.com")]), "", violation()),
                over_tls("a wildcard", alternatives(&[dns("*.example.com")]), "", violation()),
                over_tls("a domain above", alternatives(&[dns("example.com")]), "", violation()),
                over_tls("a path below", alternatives(&[uri("spiffe://example.com/app/x")]), "", violation()),
                over_tls("the common name alone", subject(&[(CN, "ann")]), "", violation()),
                over_tls("more in the subject", subject(&[(O, "Acme"), (OU, "x"), (CN, "ann")]), "", violation()),
                over_tls("another case", subject(&[(O, "acme"), (CN, "ann")]), "", violation()),
                over_tls("a longer name", subject(&[(O, "Acme"), (CN, "anna")]), "", violation()),
                over_tls("the subject as a common name", subject(&[(CN, "CN=ann,O=Acme")]), "", violation()),
                over_tls("the subject as a host, as above", alternatives(&[dns("CN=ann,O=Acme")]), "", let_in("S")),
            ],
        },
        Case {
            name: "subjects in any order",
            config: mapped(&[
                ("A", "CN=a,OU=x,O=Acme,C=NL"),
                ("B", "O=Acme, C=NL, CN=b"),
                ("F", "C=NL,O=Acme,OU=x,CN=f"),
            ]),
            attempts: vec![
                over_tls("from the root", subject(&[(C, "NL"), (O, "Acme"), (OU, "x"), (CN, "a")]), "", let_in("A")),
                over_tls("from the leaf", subject(&[(CN, "a"), (OU, "x"), (O, "Acme"), (C, "NL")]), "", let_in("A")),
                over_tls("mixed", subject(&[(OU, "x"), (C, "NL"), (CN, "a"), (O, "Acme")]), "", let_in("A")),
                over_tls("blanks in the user", subject(&[(C, "NL"), (O, "Acme"), (CN, "b")]), "", let_in("B")),
                over_tls("the user from the root", subject(&[(C, "NL"), (O, "Acme"), (OU, "x"), (CN, "f")]), "", let_in("F")),
                over_tls("less", subject(&[(C, "NL"), (O, "Acme"), (CN, "a")]), "", violation()),
                over_tls("values exchanged", subject(&[(C, "NL"), (O, "x"), (OU, "Acme"), (CN, "a")]), "", violation()),
            ],
        },
        Case {
            name: "subjects with marks in them",
            config: mapped(&[
                ("A", "CN=Doe\\\\, Ann,O=Acme"),
                ("B", "CN=a\\\\+b,O=x\\\\\\\"y"),
                ("U", "CN=Zoë,O=Šimon"),
            ]),
            attempts: vec![
                over_tls("a comma", subject(&[(O, "Acme"), (CN, "Doe, Ann")]), "", let_in("A")),
                over_tls("a plus and quotes", subject(&[(O, "x\"y"), (CN, "a+b")]), "", let_in("B")),
                over_tls("letters beyond ASCII", subject(&[(O, "Šimon"), (CN, "Zoë")]), "", let_in("U")),
                over_tls("an attribute in a value", subject(&[(CN, "Doe, Ann,O=Acme")]), "", violation()),
            ],
        },
        Case {
            name: "domain components",
            config: mapped(&[("A", "CN=ann,DC=example"), ("B", "CN=bob,OU=x,DC=example")]),
            attempts: vec![
                over_tls("at the root", subject(&[(domain_component(), "example"), (CN, "ann")]), "", let_in("A")),
                over_tls("at the leaf", subject(&[(CN, "ann"), (domain_component(), "example")]), "", let_in("A")),
                over_tls("with a unit", subject(&[(domain_component(), "example"), (OU, "x"), (CN, "bob")]), "", let_in("B")),
                over_tls("missing", subject(&[(CN, "ann")]), "", violation()),
            ],
        },
        Case {
            name: "certificates that are no good",
            config: mapped(&[("A", "CN=ann")]),
            attempts: vec![
                over_tls("a good one", subject(&[(CN, "ann")]), "", let_in("A")),
                over_tls("none", None, "", Outcome::NoHandshake),
                over_tls("none, but a user", None, "\"user\":\"CN=ann\"", Outcome::NoHandshake),
                over_tls("self-signed", Some(self_signed("ann")), "", Outcome::NoHandshake),
                over_tls("of another authority of the same name", Some(impostor().pair(named("ann"))), "", Outcome::NoHandshake),
                over_tls("expired", pair(|params| {
                    named("ann")(params);
                    params.not_after = date_time_ymd(2024, 2, 1);
                }), "", Outcome::NoHandshake),
                over_tls("not yet valid", pair(|params| {
                    named("ann")(params);
                    params.not_before = date_time_ymd(2090, 1, 1);
                    params.not_after = date_time_ymd(2091, 1, 1);
                }), "", Outcome::NoHandshake),
                over_tls("for servers only", pair(|params| {
                    named("ann")(params);
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                }), "", Outcome::NoHandshake),
            ],
        },
        Case {
            name: "a certificate goes before credentials",
            config: format!(
                "tls {{ {MUTUAL}, verify_and_map: true }}
                 accounts {{ A {{ users: [ {{ user: \"CN=ann\" }} ] }}
                   P {{ users: [ {{ user: bob, password: pw }} ] }} }}"
            ),
            attempts: vec![
                over_tls("another name", subject(&[(CN, "ann")]), "\"user\":\"bob\"", let_in("A")),
                // The certificate's user has no password, so none must be sent.
                over_tls("another user's", subject(&[(CN, "ann")]), "\"user\":\"bob\",\"pass\":\"pw\"", violation()),
                over_tls("a password", subject(&[(CN, "ann")]), "\"pass\":\"pw\"", violation()),
                over_tls("a token", subject(&[(CN, "ann")]), "\"auth_token\":\"x\"", let_in("A")),
                over_tls("right ones, but nobody's certificate", subject(&[(CN, "x")]), "\"user\":\"bob\",\"pass\":\"pw\"", violation()),
            ],
        },
        Case {
            name: "a user with a password needs the certificate too",
            config: format!(
                "tls {{ {MUTUAL}, verify_and_map: true }}
                 accounts {{ A {{ users: [ {{ user: \"CN=ann\", password: pw }} ] }} }}"
            ),
            attempts: vec![
                over_tls("both", subject(&[(CN, "ann")]), "\"user\":\"CN=ann\",\"pass\":\"pw\"", let_in("A")),
                over_tls("the password and no name", subject(&[(CN, "ann")]), "\"pass\":\"pw\"", let_in("A")),
                over_tls("without the password", subject(&[(CN, "ann")]), "", violation()),
                over_tls("with a wrong one", subject(&[(CN, "ann")]), "\"user\":\"CN=ann\",\"pass\":\"no\"", violation()),
                over_tls("the password without the certificate", subject(&[(CN, "x")]), "\"user\":\"CN=ann\",\"pass\":\"pw\"", violation()),
            ],
        },
        Case {
            name: "certificates for kinds of connections",
            config: format!(
                "tls {{ {MUTUAL}, verify_and_map: true }}
                 accounts {{
                   A {{ users: [ {{ user: \"CN=ann\", allowed_connection_types: [STANDARD] }} ] }}
                   B {{ users: [ {{ user: \"CN=bob\", allowed_connection_types: [WEBSOCKET] }} ] }} }}"
            ),
            attempts: vec![
                over_tls("for sockets", subject(&[(CN, "ann")]), "", let_in("A")),
                over_tls("for browsers", subject(&[(CN, "bob")]), "", violation()),
            ],
        },
        Case {
            name: "unknown certificates and no_auth_user",
            config: format!(
                "tls {{ {MUTUAL}, verify_and_map: true }}
                 accounts {{ A {{ users: [ {{ user: \"CN=ann\" }} ] }}
                   G {{ users: [ {{ user: guest, password: pw }} ] }} }}
                 no_auth_user: guest"
            ),
            attempts: vec![
                over_tls("a known one", subject(&[(CN, "ann")]), "", let_in("A")),
                over_tls("an unknown one", subject(&[(CN, "x")]), "", violation()),
                over_tls("an unknown one with credentials", subject(&[(CN, "x")]), "\"user\":\"guest\",\"pass\":\"pw\"", violation()),
                over_tls("none", None, "", Outcome::NoHandshake),
            ],
        },
        Case {
            name: "a certificate that only has to be there",
            config: format!(
                "tls {{ {MUTUAL}, verify: true }}
                 accounts {{ P {{ users: [ {{ user: bob, password: pw }}, {{ user: \"CN=ann\" }} ] }} }}"
            ),
            attempts: vec![
                over_tls("and credentials", subject(&[(CN, "x")]), "\"user\":\"bob\",\"pass\":\"pw\"", let_in("P")),
                over_tls("and wrong ones", subject(&[(CN, "x")]), "\"user\":\"bob\",\"pass\":\"no\"", violation()),
                over_tls("is nobody's name", subject(&[(CN, "ann")]), "", violation()),
                over_tls("is missing", None, "\"user\":\"bob\",\"pass\":\"pw\"", Outcome::NoHandshake),
            ],
        },
        Case {
            name: "a certificate nobody asks for",
            config: format!("tls {{ {MUTUAL} }}\nauthorization {{ token: t }}"),
            attempts: vec![
                over_tls("none", None, "\"auth_token\":\"t\"", let_in("$G")),
                over_tls("another authority's", Some(impostor().pair(named("x"))), "\"auth_token\":\"t\"", let_in("$G")),
                over_tls("and a wrong token", subject(&[(CN, "x")]), "\"auth_token\":\"x\"", violation()),
            ],
        },
        Case {
            name: "clear text where tls is optional",
            config: format!(
                "tls {{ {MUTUAL}, verify_and_map: true }}, allow_non_tls: true
                 accounts {{ A {{ users: [ {{ user: \"CN=ann\" }} ] }}
                   P {{ users: [ {{ user: bob, password: pw }} ] }} }}"
            ),
            attempts: vec![
                over_tls("a certificate", subject(&[(CN, "ann")]), "", let_in("A")),
                with("\"user\":\"bob\",\"pass\":\"pw\"", violation()),
                with("\"user\":\"CN=ann\"", violation()),
                with("\"user\":\"CN=ann\",\"pass\":\"\"", violation()),
                with("", violation()),
            ],
        },
        Case {
            name: "tls that is required",
            config: format!("tls {{ {TLS} }}"),
            attempts: vec![
                over_tls("over it", None, "", let_in("$G")),
                with("", Outcome::Closed),
            ],
        },
    ]
}

/// Tokens, users and passwords that the conversations leave out.
fn secrets() -> Vec<Case> {
    // `s3cret`.
    let hash = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";
    let user = |name: &str, password: &str| {
        let [name, password] = [name, password].map(|text| Value::from(text).to_string());
        format!("\"user\":{name},\"pass\":{password}")
    };
    vec![
        Case {
            name: "hashes of every letter",
            config: format!(
                "accounts {{ A {{ users: [ {{ user: a, password: \"{hash}\" }} ] }}
                 B {{ users: [ {{ user: b, password: \"{}\" }} ] }}
                 X {{ users: [ {{ user: x, password: \"{}\" }} ] }}
                 Y {{ users: [ {{ user: y, password: \"{}\" }} ] }} }}",
                hash.replacen('a', "b", 1),
                hash.replacen('a', "x", 1),
                hash.replacen('a', "y", 1),
            ),
            attempts: ["a", "b", "x", "y"]
                .into_iter()
                .flat_map(|name| {
                    [
                        with(&user(name, "s3cret"), let_in(&name.to_uppercase())),
                        with(&user(name, "s3cre"), violation()),
                        with(&user(name, ""), violation()),
                        with(&user(name, hash), violation()),
                    ]
                })
                .collect(),
        },
        Case {
            name: "hashes that are none",
            config: format!(
                "authorization {{ users: [ {{ user: a, password: \"{}\" }}
                 {{ user: b, password: \"$2a$04$\" }}, {{ user: c, password: \"$2a$99${}\" }} ] }}",
                &hash[..59],
                &hash[7..]
            ),
            attempts: vec![
                with(&user("a", "s3cret"), violation()),
                with(&user("a", &hash[..59]), violation()),
                with(&user("b", "$2a$04$"), violation()),
                with(&user("b", ""), violation()),
                with(&user("c", "s3cret"), violation()),
            ],
        },
        Case {
            name: "long passwords",
            config: format!(
                "accounts {{ A {{ users: [ {{ user: a, password: \"{}\" }} ] }} }}",
                "x".repeat(500)
            ),
            attempts: vec![
                with(&user("a", &"x".repeat(500)), let_in("A")),
                with(&user("a", &"x".repeat(499)), violation()),
                with(&user("a", &"x".repeat(501)), violation()),
            ],
        },
        Case {
            name: "letters beyond ASCII",
            config: "accounts { A { users: [ { user: \"Zoë\", password: \"pässwörd ✓\" } ] } }".to_owned(),
            attempts: vec![
                with(&user("Zoë", "pässwörd ✓"), let_in("A")),
                with("\"user\":\"Zo\\u00eb\",\"pass\":\"p\\u00e4ssw\\u00f6rd \\u2713\"", let_in("A")),
                with(&user("Zoe", "pässwörd ✓"), violation()),
            ],
        },
        Case {
            name: "names and passwords in any case",
            config: "accounts { A { users: [ { user: Ann, password: Pw } ] } }".to_owned(),
            attempts: vec![
                with(&user("Ann", "Pw"), let_in("A")),
                with(&user("ann", "Pw"), violation()),
                with(&user("Ann", "pw"), violation()),
                with(&user("Ann ", "Pw"), violation()),
                with("\"USER\":\"Ann\",\"Pass\":\"Pw\"", let_in("A")),
            ],
        },
        Case {
            name: "fields of other forms",
            config: "accounts { A { users: [ { user: \"1\", password: \"2\" } ] } }".to_owned(),
            attempts: vec![
                with("\"user\":\"1\",\"pass\":\"2\"", let_in("A")),
                with("\"user\":null,\"pass\":\"2\"", violation()),
                with("\"user\":\"1\",\"pass\":null", violation()),
                with("\"user\":\"x\",\"user\":\"1\",\"pass\":\"2\"", let_in("A")),
                with("\"user\":\"1\",\"user\":\"x\",\"pass\":\"2\"", violation()),
            ],
        },
        Case {
            name: "a token of letters and a token of digits",
            config: "authorization { token: \"0123\" }".to_owned(),
            attempts: vec![
                with("\"auth_token\":\"0123\"", let_in("$G")),
                with("\"auth_token\":\"123\"", violation()),
                with("\"auth_token\":\"\"", violation()),
                with("\"user\":\"0123\"", violation()),
                with("\"user\":\"x\",\"pass\":\"0123\"", violation()),
                with("\"auth_token\":\"0123\",\"user\":\"a\",\"pass\":\"b\"", let_in("$G")),
            ],
        },
        Case {
            name: "a user in the place of a token",
            config: "authorization { user: ann, password: pw }".to_owned(),
            attempts: vec![
                with(&user("ann", "pw"), let_in("$G")),
                with("\"auth_token\":\"pw\"", violation()),
                with("\"user\":\"ann\"", violation()),
                with("\"pass\":\"pw\"", violation()),
                with("\"auth_token\":\"x\",\"user\":\"ann\",\"pass\":\"pw\"", let_in("$G")),
            ],
        },
        Case {
            name: "users of several accounts and of none",
            config: "accounts { A { users: [ { user: a, password: x } ] }, B { users: [ { user: b, password: x } ] } }
                     authorization { users: [ { user: c, password: x } ] }"
                .to_owned(),
            attempts: vec![
                with(&user("a", "x"), let_in("A")),
                with(&user("b", "x"), let_in("B")),
                with(&user("c", "x"), let_in("$G")),
                with(&user("d", "x"), violation()),
                with("", violation()),
            ],
        },
        Case {
            name: "accounts without users",
            config: "accounts: [A, B]".to_owned(),
            attempts: vec![with("", let_in("$G")), with(&user("a", "x"), let_in("$G"))],
        },
        Case {
            name: "asking for an account",
            config: "accounts { A { users: [ { user: a, password: x } ] } }".to_owned(),
            attempts: vec![
                with("\"account\":\"A\"", violation()),
                with("\"account\":\"A\",\"user\":\"a\",\"pass\":\"x\"", violation()),
                with("\"account\":\"$SYS\",\"new_account\":true", violation()),
                with("\"account\":\"Z\",\"new_account\":true,\"user\":\"a\",\"pass\":\"x\"", violation()),
            ],
        },
        Case {
            name: "a token from a server that wants nothing",
            config: "max_payload: 100".to_owned(),
            attempts: vec![
                with("\"auth_token\":\"x\"", let_in("$G")),
                with(&user("$SYS", "x"), let_in("$G")),
                with("\"nkey\":\"UABC\",\"sig\":\"AAAA\"", let_in("$G")),
            ],
        },
        Case {
            name: "jwts without an operator",
            config: "authorization { users: [ { user: a, password: x } ] }".to_owned(),
            attempts: vec![
                with("\"jwt\":\"eyJhbGciOiJub25lIn0.e30.\"", violation()),
                with("\"jwt\":\"x\",\"user\":\"a\",\"pass\":\"x\"", let_in("$G")),
            ],
        },
    ]
}
