//! What the server can be asked in the system account: the subjects, and from a request to its answer. The answers are
//! the monitoring pages' own (monitoring reference, section 5).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::System;
use super::bodies::{Envelope, Fault, ServerId, UserInfo};
use super::encoding::{Body, Encoding};
use super::question::{BadQuestion, Question};
use crate::clock::now;
use crate::monitoring::pages::{
    accountz, accstatz_of, connz, expvarz, gatewayz, healthz, ipqueuesz, jsz, leafz, profilez,
    raftz, routez, subsz, varz,
};
use crate::monitoring::{
    ConnectionState, ConnzOptions, HealthzOptions, Subscriptions, SubszOptions, compact_json,
};
use crate::server::Shared;
use natterjack_engine::{CloseReason, SubscriptionFilter};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Statsz,
    Idz,
    Varz,
    Connz,
    Subsz,
    Routez,
    Gatewayz,
    Leafz,
    Accountz,
    Jsz,
    Healthz,
    Raftz,
    Ipqueuesz,
    Expvarz,
    Profilez,
    Reload,
    Kick,
    LameDuck,
    AccountConnz,
    AccountSubsz,
    AccountLeafz,
    AccountJsz,
    AccountInfo,
    AccountStatz,
    AccountConns,
    AccountsStatz,
    SubscriptionCount,
    UserInfo,
    /// No question: another server's statistics.
    PeerStatsz,
    /// No question: another server is going.
    PeerLeaves,
    /// No question: how many connections an account has on another server.
    PeerConnections,
    /// No question: how long a client of another server took to answer one of this server's.
    PeerMeasure,
}

impl Kind {
    /// Whether it is about another server, and wants no answer.
    pub(super) fn is_notice(self) -> bool {
        matches!(
            self,
            Self::PeerStatsz | Self::PeerLeaves | Self::PeerConnections | Self::PeerMeasure
        )
    }
}

/// Pages that any server and one server can be asked for.
const PAGES: [(&str, Kind); 15] = [
    ("STATSZ", Kind::Statsz),
    ("IDZ", Kind::Idz),
    ("VARZ", Kind::Varz),
    ("CONNZ", Kind::Connz),
    ("SUBSZ", Kind::Subsz),
    ("ROUTEZ", Kind::Routez),
    ("GATEWAYZ", Kind::Gatewayz),
    ("LEAFZ", Kind::Leafz),
    ("ACCOUNTZ", Kind::Accountz),
    ("JSZ", Kind::Jsz),
    ("HEALTHZ", Kind::Healthz),
    ("RAFTZ", Kind::Raftz),
    ("IPQUEUESZ", Kind::Ipqueuesz),
    ("EXPVARZ", Kind::Expvarz),
    ("PROFILEZ", Kind::Profilez),
];

/// What can be asked about an account.
const OF_ACCOUNTS: [(&str, Kind); 7] = [
    ("CONNZ", Kind::AccountConnz),
    ("SUBSZ", Kind::AccountSubsz),
    ("LEAFZ", Kind::AccountLeafz),
    ("JSZ", Kind::AccountJsz),
    ("INFO", Kind::AccountInfo),
    ("STATZ", Kind::AccountStatz),
    ("CONNS", Kind::AccountConns),
];

/// What other servers say of themselves.
const NOTICES: [(&str, Kind); 4] = [
    ("$SYS.SERVER.*.STATSZ", Kind::PeerStatsz),
    ("$SYS.SERVER.*.SHUTDOWN", Kind::PeerLeaves),
    ("$SYS.SERVER.*.LAMEDUCK", Kind::PeerLeaves),
    ("$SYS.SERVER.ACCOUNT.*.CONNS", Kind::PeerConnections),
];

/// Where a server is answered that asks how many connections an account has elsewhere.
pub(super) fn inbox(server_id: &str) -> String {
    format!("$SYS._INBOX_.{server_id}")
}

/// Where a server is told how long clients of others took to answer its own. `short_name` is the server's
/// ([`short_name`]).
pub(super) fn measures(short_name: &str) -> String {
    format!("$SYS.LATENCY.M2.{short_name}")
}

/// What a server of this name is called in subjects: as all others work it out, too (nats-server `getHash`).
pub(super) fn short_name(server_name: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let hash = Sha256::digest(server_name);
    let digit = |byte: &u8| char::from(DIGITS[usize::from(byte % 62)]);
    hash.iter().take(8).map(digit).collect()
}

/// What is asked of the server that a client is connected with, and of no other.
pub(super) const USER_INFO: &str = "$SYS.REQ.USER.*.INFO";

/// All subjects the server with this id and [`short_name`] listens to on all servers.
pub(super) fn subjects(server_id: &str, short_name: &str) -> Vec<(String, Kind)> {
    let mut subjects = vec![("$SYS.REQ.SERVER.PING".to_owned(), Kind::Statsz)];
    for (name, kind) in PAGES {
        subjects.push((format!("$SYS.REQ.SERVER.PING.{name}"), kind));
        subjects.push((format!("$SYS.REQ.SERVER.{server_id}.{name}"), kind));
    }
    for (name, kind) in [
        ("RELOAD", Kind::Reload),
        ("KICK", Kind::Kick),
        ("LDM", Kind::LameDuck),
    ] {
        subjects.push((format!("$SYS.REQ.SERVER.{server_id}.{name}"), kind));
    }
    for (name, kind) in OF_ACCOUNTS {
        subjects.push((format!("$SYS.REQ.ACCOUNT.*.{name}"), kind));
    }
    subjects.push((
        "$SYS.REQ.ACCOUNT.PING.STATZ".to_owned(),
        Kind::AccountsStatz,
    ));
    subjects.push(("$SYS.REQ.ACCOUNT.NSUBS".to_owned(), Kind::SubscriptionCount));
    let notices = NOTICES.into_iter();
    subjects.extend(notices.map(|(subject, kind)| (subject.to_owned(), kind)));
    subjects.push((inbox(server_id), Kind::PeerConnections));
    subjects.push((measures(short_name), Kind::PeerMeasure));
    subjects
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    /// The account in the subject, where there is one.
    pub(super) account: String,
    /// The header block; empty if there is none.
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// What the server does about a request.
pub(super) enum Answer {
    Body(Body),
    /// Nothing is said: the question was for others, or makes no sense.
    None,
    /// The body comes from elsewhere.
    Reload(Encoding),
}

impl From<Vec<u8>> for Answer {
    fn from(payload: Vec<u8>) -> Self {
        Self::Body(payload.into())
    }
}

/// Why there is no data.
enum Refusal {
    Question(BadQuestion),
    /// What came of it, and whether nats-server says `"data":null` beside it.
    Outcome {
        description: String,
        null: bool,
    },
    /// It is for others, or about nothing.
    Silent,
}

impl From<BadQuestion> for Refusal {
    fn from(error: BadQuestion) -> Self {
        Self::Question(error)
    }
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Outcome {
        description: error.to_string(),
        null: true,
    }
}

/// Whether the answer may take long.
pub(super) fn is_listing(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Connz
            | Kind::Subsz
            | Kind::Routez
            | Kind::Accountz
            | Kind::AccountConnz
            | Kind::AccountSubsz
            | Kind::AccountsStatz
            | Kind::SubscriptionCount
    )
}

/// Whether it can be asked for in another encoding, as of nats-server.
fn is_encoded(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Statsz | Kind::Idz | Kind::UserInfo | Kind::AccountConns | Kind::SubscriptionCount
    )
}

/// Answers a request.
pub(super) fn answer(system: &System, shared: &Shared, request: &Request) -> Answer {
    match try_answer(system, shared, request) {
        Ok(Answer::Body(body)) if is_encoded(request.kind) => {
            Answer::Body(Encoding::accepted(&request.header).apply(body.payload))
        }
        Ok(answer) => answer,
        Err(Refusal::Silent) => Answer::None,
        // What is no question to these gets no answer, as on nats-server.
        Err(Refusal::Question(_))
            if matches!(request.kind, Kind::AccountConns | Kind::SubscriptionCount) =>
        {
            Answer::None
        }
        Err(Refusal::Question(error)) => Answer::from(compact_json(&Envelope::<()> {
            server: system.server(shared),
            data: None,
            error: Some(Fault {
                code: 400,
                description: error.to_string(),
            }),
        })),
        Err(Refusal::Outcome { description, null }) => {
            Answer::from(fault(system, shared, description, null))
        }
    }
}

/// An answer that says what went wrong on the server's side.
pub(super) fn fault(system: &System, shared: &Shared, description: String, null: bool) -> Vec<u8> {
    compact_json(&Envelope {
        server: system.server(shared),
        data: null.then_some(()),
        error: Some(Fault {
            code: 500,
            description,
        }),
    })
}

/// An answer that says that it was done.
pub(super) fn done(system: &System, shared: &Shared) -> Vec<u8> {
    compact_json(&Envelope::<()> {
        server: system.server(shared),
        data: None,
        error: None,
    })
}

fn try_answer(system: &System, shared: &Shared, request: &Request) -> Result<Answer, Refusal> {
    if request.kind == Kind::Idz {
        // Whatever is asked.
        let server = system.identity(shared);
        return Ok(Answer::from(compact_json(&ServerId {
            name: &server.name,
            host: &server.host,
            id: &server.id,
        })));
    }
    if request.kind == Kind::UserInfo {
        return user_info(system, shared, request);
    }
    let is_about_one = matches!(request.kind, Kind::Kick | Kind::LameDuck);
    if is_about_one && (request.payload.is_empty() || Question::parse(&request.payload).is_err()) {
        return Err(Refusal::Silent);
    }
    let question = Question::parse(&request.payload)?;
    if question.is_for_others(&system.identity(shared))? {
        return Err(Refusal::Silent);
    }
    let engine = &*shared.engine;
    let account = || Some(request.account.clone());
    let data = Data { system, shared };
    let facts = || shared.facts();
    match request.kind {
        Kind::Idz
        | Kind::UserInfo
        | Kind::PeerStatsz
        | Kind::PeerLeaves
        | Kind::PeerConnections
        | Kind::PeerMeasure => Err(Refusal::Silent),
        Kind::Statsz => Ok(Answer::from(system.statsz(shared))),
        Kind::Varz => data.of(varz(&facts(), shared.load())),
        Kind::Connz => {
            data.of(connz(&facts(), engine, &connz_options(&question, None)?).map_err(failed)?)
        }
        Kind::AccountConnz => {
            data.of(connz(&facts(), engine, &connz_options(&question, account())?).map_err(failed)?)
        }
        Kind::Subsz => {
            data.of(subsz(&facts(), engine, &subsz_options(&question)?).map_err(failed)?)
        }
        Kind::AccountSubsz => {
            let options = SubszOptions {
                subscriptions: true,
                account: account(),
                ..subsz_options(&question)?
            };
            data.of(subsz(&facts(), engine, &options).map_err(failed)?)
        }
        Kind::Routez => data.of(routez(&facts(), engine, subscriptions(&question)?)),
        Kind::Gatewayz => {
            check_flags(
                &question,
                &["accounts", "subscriptions", "subscriptions_detail"],
            )?;
            check_texts(&question, &["name", "account_name"])?;
            data.of(gatewayz(&facts()))
        }
        Kind::Leafz | Kind::AccountLeafz => {
            check_flags(&question, &["subscriptions"])?;
            check_texts(&question, &["account"])?;
            data.of(leafz(&facts()))
        }
        Kind::Accountz => {
            let account = question.text("account")?;
            data.of(accountz(&facts(), engine, account.as_deref()).map_err(failed)?)
        }
        Kind::AccountInfo => {
            let page = accountz(&facts(), engine, Some(&request.account)).map_err(failed)?;
            data.of(page.account_detail)
        }
        Kind::Jsz => {
            check_jsz(&question)?;
            // Only whoever leads the others would answer.
            if question.flag("leader_only")? {
                return Err(Refusal::Silent);
            }
            data.of(jsz(&facts()))
        }
        Kind::AccountJsz => {
            check_jsz(&question)?;
            Err(failed("jetstream not enabled"))
        }
        Kind::Healthz => {
            let js_enabled = question.flag("js-enabled")?;
            let options = HealthzOptions {
                js_enabled_only: question.flag("js-enabled-only")? || js_enabled,
                js_server_only: question.flag("js-server-only")?,
                js_meta_only: question.flag("js-meta-only")?,
                account: question.text("account")?,
                stream: question.text("stream")?,
                consumer: question.text("consumer")?,
                details: question.flag("details")?,
            };
            data.of(healthz(shared.is_accepting(), &options).with_status_code())
        }
        Kind::Raftz => {
            check_texts(&question, &["account", "group"])?;
            data.of(raftz())
        }
        Kind::Ipqueuesz => {
            check_flags(&question, &["all"])?;
            check_texts(&question, &["filter"])?;
            data.of(ipqueuesz())
        }
        Kind::Expvarz => data.of(expvarz()),
        Kind::Profilez => {
            question.integer("debug")?;
            question.integer("duration")?;
            data.of(profilez(question.text("name")?.as_deref()))
        }
        Kind::AccountStatz => {
            // Obeyed only where all accounts are asked about, but what is wrong with it is told in any case.
            let _ = question.texts("accounts")?;
            // Another subscription answers that.
            if request.account == "PING" {
                return Err(Refusal::Silent);
            }
            statz(&data, Some(vec![request.account.clone()]), &question)
        }
        Kind::AccountsStatz => statz(&data, question.texts("accounts")?, &question),
        Kind::AccountConns => {
            let named = question.text("acc")?;
            let Some(account) = engine.account(&request.account) else {
                return Err(Refusal::Silent);
            };
            let is_it = named.is_none_or(|named| named == request.account);
            if !is_it || account.snapshot().connections == 0 {
                return Err(Refusal::Silent);
            }
            Ok(Answer::from(system.account_connections(shared, &account)))
        }
        Kind::SubscriptionCount => subscription_count(shared, &question),
        Kind::Reload => Ok(Answer::Reload(Encoding::accepted(&request.header))),
        Kind::Kick => {
            let id = question.unsigned("cid")?;
            if engine.close_connection(id, CloseReason::Kicked) {
                Ok(Answer::from(done(system, shared)))
            } else {
                Err(Refusal::Outcome {
                    description: "no such client or leafnode id".to_owned(),
                    null: false,
                })
            }
        }
        Kind::LameDuck => {
            let id = question.unsigned("cid")?;
            if engine.announce_lame_duck_to(id, now()) {
                Ok(Answer::from(done(system, shared)))
            } else {
                Err(Refusal::Outcome {
                    description: "no such client id".to_owned(),
                    null: false,
                })
            }
        }
    }
}

/// Answers with data.
struct Data<'a> {
    system: &'a System,
    shared: &'a Shared,
}

impl Data<'_> {
    fn of(&self, data: impl Serialize) -> Result<Answer, Refusal> {
        Ok(Answer::from(compact_json(&Envelope {
            server: self.system.server(self.shared),
            data: Some(data),
            error: None,
        })))
    }
}

/// Who asks, as the server itself says in the header of a request from another account.
#[derive(Deserialize)]
struct Asker {
    #[serde(default)]
    id: u64,
    #[serde(default, rename = "acc")]
    account: String,
    /// Name of the server it asks.
    #[serde(default)]
    server: String,
}

fn asker(header: &[u8]) -> Option<Asker> {
    let mut lines = header.split(|&byte| byte == b'\n');
    let said = lines.find_map(|line| line.strip_prefix(b"Nats-Request-Info: "))?;
    serde_json::from_slice(said.trim_ascii()).ok()
}

/// Tells a user who it is and what it may do.
fn user_info(system: &System, shared: &Shared, request: &Request) -> Result<Answer, Refusal> {
    // What a client of another server asks is that one's to answer: connections are numbered by each server alone.
    let own_name = &system.identity(shared).name;
    let asker = asker(&request.header)
        .filter(|asker| asker.account == request.account && asker.server == *own_name);
    let client = asker.and_then(|asker| shared.engine.connection_snapshot(asker.id));
    // Since it asked it may have gone, or have become somebody else.
    let client = client.filter(|client| *client.client.account == *request.account);
    let Some(client) = client else {
        return Err(Refusal::Silent);
    };
    let options = shared.options();
    let access = options.access();
    let data = Data { system, shared };
    data.of(UserInfo::new(&client, &access))
}

fn statz(
    data: &Data<'_>,
    accounts: Option<Vec<String>>,
    question: &Question,
) -> Result<Answer, Refusal> {
    let with_unused = question.flag("include_unused")?;
    let shared = data.shared;
    let accounts = accounts.filter(|names| !names.is_empty());
    let page = accstatz_of(
        &shared.facts(),
        &shared.engine,
        accounts.as_deref(),
        with_unused,
    );
    if page.account_statz.is_empty() && !with_unused {
        return Err(Refusal::Silent);
    }
    data.of(page)
}

/// Subscriptions of clients that a message to a subject would reach, or with a subject with wildcards those that are
/// for parts of it. Linear in the account's subscriptions.
fn subscription_count(shared: &Shared, question: &Question) -> Result<Answer, Refusal> {
    let (Some(account), Some(subject)) = (question.text("acc")?, question.text("subject")?) else {
        return Err(Refusal::Silent);
    };
    // As Go writes bytes.
    let queue = match question.text("queue")? {
        None => None,
        Some(text) => Some(base64(&text).ok_or(Refusal::Silent)?),
    };
    let known = shared.engine.account(&account);
    if known.is_none_or(|account| account.snapshot().connections == 0) {
        return Err(Refusal::Silent);
    }
    let is_literal = natterjack_subject::is_literal(subject.as_bytes());
    let filter = SubscriptionFilter {
        account: Some(&account),
        ..SubscriptionFilter::default()
    };
    let mut count = 0_u64;
    shared.engine.for_each_subscription(filter, |held| {
        let is_meant = if is_literal {
            natterjack_subject::matches(held.subject, subject.as_bytes())
        } else {
            natterjack_subject::matches(subject.as_bytes(), held.subject)
        };
        let is_of_queue = queue
            .as_deref()
            .is_none_or(|queue| held.queue == Some(queue));
        // The server's own connection has the number 0.
        count += u64::from(is_meant && is_of_queue && held.connection != 0);
    });
    Ok(Answer::from(count.to_string().into_bytes()))
}

/// Decodes standard base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    data_encoding::BASE64.decode(text.as_bytes()).ok()
}

fn connz_options(question: &Question, account: Option<String>) -> Result<ConnzOptions, Refusal> {
    Ok(ConnzOptions {
        auth: question.flag("auth")?,
        subscriptions: subscriptions(question)?,
        offset: question.count("offset")?,
        limit: question.count("limit")?,
        cid: Some(question.unsigned("cid")?).filter(|&id| id > 0),
        state: match question.integer("state")? {
            0 => ConnectionState::Open,
            1 => ConnectionState::Closed,
            2 => ConnectionState::All,
            _ => {
                return Err(Refusal::Question(BadQuestion::Type {
                    name: "state",
                    expected: "0 (open), 1 (closed) or 2 (all)",
                }));
            }
        },
        user: question.text("user")?,
        account: match account {
            Some(account) => Some(account),
            None => question.text("acc")?,
        },
        filter_subject: question.text("filter_subject")?,
        mqtt_client: question.text("mqtt_client")?,
        sort: match question.text("sort")? {
            Some(sort) => sort.parse().map_err(failed)?,
            None => Default::default(),
        },
    })
}

/// What makes no difference on this server must be readable all the same.
fn check_flags(question: &Question, names: &[&'static str]) -> Result<(), BadQuestion> {
    names
        .iter()
        .try_for_each(|name| question.flag(name).map(drop))
}

fn check_texts(question: &Question, names: &[&'static str]) -> Result<(), BadQuestion> {
    names
        .iter()
        .try_for_each(|name| question.text(name).map(drop))
}

fn check_jsz(question: &Question) -> Result<(), BadQuestion> {
    check_flags(
        question,
        &[
            "accounts",
            "streams",
            "consumer",
            "direct_consumer",
            "config",
            "raft",
            "stream_leader_only",
        ],
    )?;
    check_texts(question, &["account"])?;
    question.integer("offset")?;
    question.integer("limit").map(drop)
}

fn subscriptions(question: &Question) -> Result<Subscriptions, BadQuestion> {
    let is_detailed = question.flag("subscriptions_detail")?;
    Ok(match (question.flag("subscriptions")?, is_detailed) {
        (_, true) => Subscriptions::Detail,
        (true, false) => Subscriptions::Subjects,
        (false, false) => Subscriptions::Count,
    })
}

fn subsz_options(question: &Question) -> Result<SubszOptions, BadQuestion> {
    Ok(SubszOptions {
        subscriptions: question.flag("subscriptions")?,
        offset: question.count("offset")?,
        limit: question.count("limit")?,
        test: question.text("test")?,
        account: question.text("account")?,
    })
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn short_names_are_those_that_others_work_out() {
        // As nats-server 2.15.1 calls itself.
        assert_eq!(short_name("A"), "NUmM6cRx");
    }
}
