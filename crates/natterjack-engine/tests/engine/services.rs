//! Requests to other accounts, and the ways of their answers.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use natterjack_engine::access::{
    Export, Import, Latency, ResponseType, Sampling, ServiceExport, ServiceImport, StreamExport,
    StreamImport,
};
use natterjack_engine::{
    Access, AccountAccess, CloseReason, Credential, Destination, LatencyOutcome, LatencyReport,
    Limits, Mapping, Permissions, Report, ResponseLimit, SystemConnection, Transport, User,
};

use crate::harness::{Client, Harness};

fn account(name: &str) -> AccountAccess {
    AccountAccess {
        name: name.to_owned(),
        users: vec![User {
            name: name.to_lowercase(),
            credential: Credential::Password("p".into()),
            ..User::default()
        }],
        ..AccountAccess::default()
    }
}

fn service(subject: &str, response_type: ResponseType) -> Export {
    Export::Service(ServiceExport {
        subject: subject.to_owned(),
        response_type,
        response_threshold: Duration::from_secs(1),
        ..ServiceExport::default()
    })
}

fn uses(account: &str, subject: &str, to: &str) -> Import {
    Import::Service(ServiceImport {
        account: account.to_owned(),
        subject: subject.to_owned(),
        to: Some(to.to_owned()),
        ..ServiceImport::default()
    })
}

/// A answers `svc.*`, B asks it as `my.*` and offers that to C, which asks it as `c`.
fn chain(response_type: ResponseType) -> Access {
    let access = Access {
        accounts: vec![
            AccountAccess {
                exports: vec![service("svc.*", response_type)],
                mappings: vec![Mapping {
                    source: "svc.mapped".to_owned(),
                    destinations: vec![Destination {
                        subject: "elsewhere".to_owned(),
                        ..Destination::default()
                    }],
                }],
                ..account("A")
            },
            AccountAccess {
                imports: vec![uses("A", "svc.*", "my.$1")],
                exports: vec![service("my.*", response_type)],
                ..account("B")
            },
            AccountAccess {
                imports: vec![uses("B", "my.foo", "c")],
                ..account("C")
            },
        ],
        ..Access::default()
    };
    assert_eq!(access.problems(), []);
    access
}

struct Room {
    harness: Harness,
    a: Client,
    b: Client,
    c: Client,
}

impl Room {
    fn new(access: Access) -> Self {
        let mut harness = Harness::with(Limits::default(), access);
        let mut client = |user: &str| {
            let options = format!(
                "\"user\":\"{user}\",\"pass\":\"p\",\"headers\":true,\"no_responders\":true"
            );
            let mut client = harness.connect(&options);
            harness.send(&mut client, b"SUB r.* 1\r\n");
            assert_eq!(client.take(), "");
            client
        };
        let (a, b, c) = (client("a"), client("b"), client("c"));
        Self { harness, a, b, c }
    }

    fn a(&mut self, input: &str) -> String {
        self.harness.send(&mut self.a, input.as_bytes());
        self.a.take()
    }

    fn b(&mut self, input: &str) -> String {
        self.harness.send(&mut self.b, input.as_bytes());
        self.b.take()
    }

    fn c(&mut self, input: &str) -> String {
        self.harness.send(&mut self.c, input.as_bytes());
        self.c.take()
    }
}

/// The subject that an answer to what was received goes to.
fn reply_in(received: &str) -> String {
    let reply = received
        .split_ascii_whitespace()
        .find(|word| word.starts_with("_R_."));
    reply
        .unwrap_or_else(|| panic!("no reply in {received:?}"))
        .to_owned()
}

#[test]
fn an_answer_does_not_ask_the_service_it_comes_from() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.* 2\r\n");
    room.b("SUB my.* 3\r\nPUB my.foo my.again 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    assert_eq!(room.a(&format!("PUB {reply} more 2\r\nhi\r\n")), "");
    let heard = room.b("");
    assert!(heard.contains("MSG my.again 3 _R_."), "{heard}");
    // Nor does what it went through on its way.
    room.c("SUB c 4\r\nPUB c c 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    assert_eq!(room.a(&format!("PUB {reply} 2\r\nhi\r\n")), "");
    assert!(room.c("").contains("MSG c 4 2\r\nhi"));
}

#[test]
fn the_export_of_that_very_subject_says_how_a_service_answers() {
    let mut access = chain(ResponseType::Singleton);
    let of_all = service("svc.>", ResponseType::Streamed);
    access.accounts[0].exports.insert(0, of_all);
    let mut room = Room::new(access);
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo r.1 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    room.a(&format!("PUB {reply} 0\r\n\r\n").repeat(2));
    assert_eq!(room.b("").matches("MSG r.1").count(), 1);
}

#[test]
fn who_asks_does_not_answer_through_the_service() {
    let mut access = chain(ResponseType::Singleton);
    access.accounts[0].exports = vec![service(">", ResponseType::Singleton)];
    access.accounts[1].imports = vec![uses("A", ">", ">")];
    let mut room = Room::new(access);
    room.a("SUB svc 2\r\n");
    room.b("PUB svc r.1 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    let own = room.b(&format!("PUB {reply} 2\r\nhi\r\n"));
    assert_eq!(own, "");
    // Nor is the answer lost by that.
    room.a(&format!("PUB {reply} 2\r\nhi\r\n"));
    assert!(room.b("").contains("MSG r.1 1 2\r\nhi"));
}

#[test]
fn a_request_goes_there_and_one_answer_comes_back() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.foo 2\r\n");
    assert_eq!(room.b("PUB my.foo r.1 2\r\nhi\r\n"), "");
    let received = room.a("");
    let reply = reply_in(&received);
    let header = "NATS/1.0\r\nNats-Request-Info: {\"acc\":\"B\",\"rtt\":1}\r\n\r\n";
    let (header_len, len) = (header.len(), header.len() + 2);
    assert_eq!(
        received,
        format!("HMSG svc.foo 2 {reply} {header_len} {len}\r\n{header}hi\r\n")
    );
    assert_eq!(room.a(&format!("PUB {reply} 2\r\nyo\r\n")), "");
    assert_eq!(room.b(""), "MSG r.1 1 2\r\nyo\r\n");
    room.a(&format!("PUB {reply} 2\r\nno\r\n"));
    assert_eq!(room.b(""), "");
}

#[test]
fn who_asks_is_told_and_cannot_be_made_up() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB > 2\r\n");
    let header = "NATS/1.0\r\nX: y\r\nnats-request-info: {\"acc\":\"$SYS\"}\r\n\r\n";
    let len = header.len();
    room.b(&format!("HPUB my.foo {len} {len}\r\n{header}\r\n"));
    let received = room.a("");
    assert!(
        received.contains(
            "\r\nNATS/1.0\r\nX: y\r\nNats-Request-Info: {\"acc\":\"B\",\"rtt\":1}\r\n\r\n\r\n"
        ),
        "{received:?}"
    );
    assert!(!received.contains("$SYS"), "{received:?}");
}

#[test]
fn a_chain_of_accounts() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.* 2\r\n");
    assert_eq!(room.c("PUB c r.9 0\r\n\r\n"), "");
    let received = room.a("");
    assert!(
        received.contains("{\"acc\":\"C\",\"svc\":\"B\",\"rtt\":1}"),
        "{received:?}"
    );
    let reply = reply_in(&received);
    room.a(&format!("PUB {reply} 1\r\nx\r\n"));
    assert_eq!(
        (room.b(""), room.c("")),
        (String::new(), "MSG r.9 1 1\r\nx\r\n".to_owned())
    );
}

#[test]
fn nobody_answers() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    let notice = |subject: &str| {
        let len = 32 + subject.len();
        format!("HMSG r.1 1 {len} {len}\r\nNATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n\r\n")
    };
    assert_eq!(room.b("PUB my.foo r.1 0\r\n\r\n"), notice("my.foo"));
    assert_eq!(room.c("PUB c r.1 0\r\n\r\n"), notice("c"));
    // A listener here who cannot be reached is no reason to say so while there is one elsewhere.
    room.a("SUB svc.* 2\r\n");
    let mut quiet = room.harness.connect(
        "\"user\":\"b\",\"pass\":\"p\",\"headers\":true,\"no_responders\":true,\"echo\":false",
    );
    let input = b"SUB > 1\r\nPUB my.foo r.1 0\r\n\r\n";
    room.harness.send(&mut quiet, input);
    assert_eq!(quiet.take(), "");
}

#[test]
fn streams_of_answers_end_with_an_empty_one() {
    let mut room = Room::new(chain(ResponseType::Streamed));
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo r.1 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    let answers = format!("PUB {reply} 1\r\nx\r\n").repeat(3);
    room.a(&answers);
    assert_eq!(room.b(""), "MSG r.1 1 1\r\nx\r\n".repeat(3));
    room.a(&format!("PUB {reply} 0\r\n\r\nPUB {reply} 1\r\nx\r\n"));
    assert_eq!(room.b(""), "MSG r.1 1 0\r\n\r\n");
}

#[test]
fn an_answer_comes_in_time_or_not_at_all() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo r.1 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    room.harness.now += Duration::from_millis(1001);
    room.a(&format!("PUB {reply} 1\r\nx\r\n"));
    assert_eq!(room.b(""), "");
}

#[test]
fn an_answer_goes_by_the_reply_alone() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo r.1 0\r\nPUB my.foo r.2 0\r\n\r\n"
        .replace("0\r\nPUB", "0\r\n\r\nPUB")
        .as_str());
    let received = room.a("");
    let replies: Vec<&str> = received
        .split_ascii_whitespace()
        .filter(|word| word.starts_with("_R_."))
        .collect();
    assert_eq!(replies.len(), 2);
    assert_ne!(replies[0], replies[1]);
    // Another account's clients cannot answer in its name, whatever they know.
    room.c(&format!("PUB {} 1\r\n!\r\n", replies[0]));
    assert_eq!(room.b(""), "");
    room.a(&format!(
        "PUB {} 1\r\n2\r\nPUB {} 1\r\n1\r\n",
        replies[1], replies[0]
    ));
    assert_eq!(room.b(""), "MSG r.2 1 1\r\n2\r\nMSG r.1 1 1\r\n1\r\n");
}

#[test]
fn mappings_of_the_answering_account_hold() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB elsewhere 2\r\n");
    room.b("PUB my.mapped 0\r\n\r\n");
    assert!(room.a("").starts_with("HMSG elsewhere 2 "));
}

/// Requests that are alike, in one batch, with other messages between them.
#[test]
fn order_is_kept_here_and_there() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.* 2\r\n");
    room.b("SUB > 3\r\n");
    let here = room.b("PUB x 1\r\n1\r\nPUB my.a 1\r\n2\r\nPUB my.a 1\r\n3\r\nPUB x 1\r\n4\r\n");
    assert_eq!(
        here,
        "MSG x 3 1\r\n1\r\nMSG my.a 3 1\r\n2\r\nMSG my.a 3 1\r\n3\r\nMSG x 3 1\r\n4\r\n"
    );
    let there = room.a("");
    let bodies: Vec<&str> = there
        .split("\r\n\r\n")
        .skip(1)
        .map(|rest| &rest[..1])
        .collect();
    assert_eq!(bodies, ["2", "3"], "{there:?}");
}

/// What came as a request is not passed on as a stream.
#[test]
fn requests_are_no_stream() {
    let mut access = chain(ResponseType::Singleton);
    access.accounts[0]
        .exports
        .push(Export::Stream(StreamExport {
            subject: "svc.>".to_owned(),
            ..StreamExport::default()
        }));
    access.accounts[2]
        .imports
        .push(Import::Stream(StreamImport {
            account: "A".to_owned(),
            subject: "svc.>".to_owned(),
            ..StreamImport::default()
        }));
    assert_eq!(access.problems(), []);
    let mut room = Room::new(access);
    room.c("SUB svc.* 2\r\n");
    let answer = room.b("PUB my.foo r.1 0\r\n\r\n");
    assert!(answer.contains("503"), "{answer:?}");
    assert_eq!(room.c(""), "");
    room.a("PUB svc.foo 0\r\n\r\n");
    assert_eq!(room.c(""), "MSG svc.foo 2 0\r\n\r\n");
}

#[test]
fn who_may_only_answer_may_answer_requests_of_others() {
    let mut access = chain(ResponseType::Singleton);
    access.accounts[0].users[0].permissions = Some(Permissions {
        responses: Some(ResponseLimit::default()),
        ..Permissions::default()
    });
    let mut room = Room::new(access);
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo r.1 0\r\n\r\n");
    let reply = reply_in(&room.a(""));
    assert_eq!(room.a(&format!("PUB {reply} 1\r\nx\r\n")), "");
    assert_eq!(room.b(""), "MSG r.1 1 1\r\nx\r\n");
}

#[test]
fn services_come_and_go_with_a_reload() {
    let mut room = Room::new(chain(ResponseType::Singleton));
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo 0\r\n\r\n");
    assert!(!room.a("").is_empty());
    let mut new = room.harness.engine.configuration();
    new.access.accounts[1].imports.clear();
    let adaptation = room.harness.engine.reconfigure(new, room.harness.now);
    room.b("PUB my.foo 0\r\n\r\n");
    assert_eq!(room.a(""), "");
    for client in [&mut room.a, &mut room.b, &mut room.c] {
        client.session.adapt(room.harness.now);
        assert_eq!(client.closed(), None);
    }
    assert_eq!(adaptation.remaining(), 0);
}

#[test]
fn circles_are_refused_and_do_no_harm() {
    let mut access = chain(ResponseType::Singleton);
    access.accounts[0].imports = vec![uses("B", "my.x", "svc.x")];
    let texts: Vec<String> = access.problems().iter().map(ToString::to_string).collect();
    assert!(
        texts
            .iter()
            .any(|text| text.ends_with("import forms a cycle")),
        "{texts:?}"
    );
    let mut room = Room::new(access);
    room.b("PUB my.x r.1 0\r\n\r\n");
    room.a("PUB svc.x r.1 0\r\n\r\n");
    assert_eq!(room.b("PING\r\n"), "PONG\r\n");
}

/// The server's own end, without which nothing is measured.
struct Deaf;

impl Transport for Deaf {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

/// A chain of accounts, each of whose services is measured.
struct Measured {
    room: Room,
    _own: SystemConnection,
}

impl Measured {
    fn new(sampling: Sampling) -> Self {
        let mut access = chain(ResponseType::Singleton);
        for account in &mut access.accounts {
            for export in &mut account.exports {
                if let Export::Service(export) = export {
                    export.allow_trace = true;
                    export.latency = Some(Latency {
                        sampling,
                        subject: format!("lat.{}", account.name),
                    });
                }
            }
        }
        assert_eq!(access.problems(), []);
        let mut room = Room::new(access);
        let own = room.harness.engine.open_system(Arc::new(Deaf));
        room.a("SUB svc.* 2\r\n");
        Self { room, _own: own }
    }

    fn reports(&self) -> Vec<Report> {
        let mut taken = Vec::new();
        let engine = &self.room.harness.engine;
        let dropped = engine.take_reports(usize::MAX, &mut taken, Waker::noop());
        assert!(dropped.is_empty());
        taken
    }

    /// What was reported of latencies: the subject, what came of it, who asked.
    fn latencies(&self) -> Vec<String> {
        let shown = |report: LatencyReport| {
            let outcome = match report.outcome {
                LatencyOutcome::Answered { responder, after } => {
                    let responder = responder.map(|responder| responder.client.account.to_string());
                    format!("by {} after {after:?}", responder.unwrap_or_default())
                }
                other => format!("{other:?}"),
            };
            let asked = &report.requestor.client.account;
            let (account, subject) = (report.account.name(), &report.subject);
            format!("{account} {subject}: {asked} {outcome}")
        };
        let latencies = self
            .reports()
            .into_iter()
            .filter_map(|report| match report {
                Report::Latency(report) => Some(shown(*report)),
                _ => None,
            });
        latencies.collect()
    }

    fn expire(&self) {
        self.room
            .harness
            .engine
            .expire_requests(self.room.harness.now);
    }
}

#[test]
fn each_account_on_the_way_is_told_how_long_it_took() {
    let mut measured = Measured::new(Sampling::Percent(100));
    measured.room.c("PUB c r.1 0\r\n\r\n");
    let reply = reply_in(&measured.room.a(""));
    measured.room.harness.now += Duration::from_millis(20);
    assert_eq!(measured.latencies(), [""; 0]);
    measured
        .room
        .a(&format!("PUB {reply} 0\r\n\r\nPUB {reply} 0\r\n\r\n"));
    assert_eq!(
        measured.latencies(),
        ["A lat.A: C by A after 20ms", "B lat.B: C by A after 20ms"]
    );
    assert_eq!(measured.room.c(""), "MSG r.1 1 0\r\n\r\n");
    // Nothing is left to be reported.
    measured.room.harness.now += Duration::from_secs(10);
    measured.expire();
    assert_eq!(measured.latencies(), [""; 0]);
}

#[test]
fn requests_that_are_not_answered_are_told_too() {
    let mut measured = Measured::new(Sampling::Percent(100));
    measured.room.b("PUB my.foo 0\r\n\r\n");
    assert_eq!(measured.latencies(), ["A lat.A: B BadRequest"]);
    // Two wait, and one ends before the other.
    measured.room.b("PUB my.foo r.1 0\r\n\r\n");
    let due = measured.room.harness.now + Duration::from_secs(1);
    let awaited = |report: &Report| matches!(report, Report::AwaitingAnswer(at) if *at == due);
    assert!(measured.reports().iter().any(awaited));
    measured.room.harness.now += Duration::from_millis(500);
    measured.room.b("SUB gone 9\r\nPUB my.foo gone 0\r\n\r\n");
    assert!(
        measured.reports().is_empty(),
        "the shell looks after them anyway"
    );
    let engine = Arc::clone(&measured.room.harness.engine);
    let half = Duration::from_millis(500);
    assert_eq!(engine.expire_requests(due - half), Some(due));
    assert_eq!(engine.expire_requests(due), Some(due + half));
    assert_eq!(measured.latencies(), ["A lat.A: B TimedOut"]);
    measured.room.b("UNSUB 9\r\n");
    assert_eq!(measured.latencies(), ["A lat.A: B Abandoned"]);
    // An answer that comes late is none.
    let received = measured.room.a("");
    let replies = received
        .split_ascii_whitespace()
        .filter(|word| word.starts_with("_R_."));
    let answers: String = replies
        .map(|reply| format!("PUB {reply} 0\r\n\r\n"))
        .collect();
    measured.room.a(&answers);
    assert_eq!(measured.room.b(""), "");
    assert_eq!(engine.expire_requests(due + 2 * half), None);
    // Somebody else still listens there: that is no reason to give up.
    measured
        .room
        .b("SUB both 8\r\nSUB b* 9\r\nSUB both 10\r\nPUB my.foo both 0\r\n\r\nUNSUB 8\r\n");
    assert_eq!(measured.latencies(), [""; 0]);
    measured.room.b("UNSUB 10\r\n");
    assert_eq!(measured.latencies(), ["A lat.A: B Abandoned"]);
    // Nobody is there; then whoever asked has gone.
    measured.room.a("UNSUB 2\r\n");
    measured.room.b("PUB my.foo r.1 0\r\n\r\n");
    assert_eq!(measured.latencies(), ["A lat.A: B Unavailable"]);
    measured.room.a("SUB svc.* 2\r\n");
    measured.room.b("PUB my.foo r.1 0\r\n\r\n");
    while !measured
        .room
        .b
        .session
        .close_step(CloseReason::ClientClosed)
    {}
    assert_eq!(measured.latencies(), ["A lat.A: B Abandoned"]);
}

fn with_header(words: &str, lines: &str) -> String {
    let header = format!("NATS/1.0\r\n{lines}\r\n\r\n");
    let bytes = header.len();
    format!("HPUB {words} {bytes} {bytes}\r\n{header}\r\n")
}

#[test]
fn what_is_only_traced_is_no_request() {
    let mut measured = Measured::new(Sampling::Percent(100));
    let only = "Nats-Trace-Dest: traces\r\nNats-Trace-Only: 1";
    for words in ["my.foo r.1", "my.foo"] {
        assert_eq!(measured.room.b(&with_header(words, only)), "");
    }
    assert_eq!(measured.room.a(""), "");
    measured.room.a("UNSUB 2\r\n");
    measured.room.b(&with_header("my.foo r.1", only));
    let is_of_trace = |report: &Report| matches!(report, Report::Trace(_));
    let reports = measured.reports();
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(is_of_trace), "{reports:?}");
    measured.room.harness.now += Duration::from_secs(10);
    measured.expire();
    assert_eq!(measured.latencies(), [""; 0]);
}

/// Where other servers report leads back to who asked, if there are other servers that were asked.
#[test]
fn nobody_reports_what_has_gone_to_no_other_server() {
    let mut measured = Measured::new(Sampling::Headers);
    measured.room.b("SUB traces 7\r\n");
    let request = with_header("my.foo r.1", "Nats-Trace-Dest: traces");
    assert_eq!(measured.room.b(&request), "");
    let heard = measured.room.a("");
    let (_, reports) = heard.split_once("Nats-Trace-Dest: ").expect("a header");
    let reports = reply_in(reports);
    measured.room.a(&format!("PUB {reports} 1\r\nx\r\n"));
    assert_eq!(measured.room.b(""), "");
    let answer = reply_in(&heard);
    measured.room.a(&format!("PUB {answer} 1\r\nx\r\n"));
    assert_eq!(measured.room.b(""), "MSG r.1 1 1\r\nx\r\n");
}

#[test]
fn what_clients_say_in_headers_is_held_within_bounds() {
    let mut measured = Measured::new(Sampling::Headers);
    let header = format!(
        "NATS/1.0\r\ntraceparent: 0-0-0-01\r\ntracestate: {}\r\n\r\n",
        "x".repeat(500_000)
    );
    let bytes = header.len();
    for _ in 0..16 {
        let request = format!("HPUB my.foo r.1 {bytes} {bytes}\r\n{header}\r\n");
        measured.room.b(&request);
    }
    assert_eq!(measured.latencies(), [""; 0]);
    measured
        .room
        .b(&format!("HPUB my.foo r.1 {bytes} {bytes}\r\n{header}\r\n").repeat(2));
    let forgotten = measured.latencies();
    assert_eq!(forgotten, ["A lat.A: B TimedOut"], "8 MiB are 16 of them");
}

#[test]
fn some_are_measured_and_nothing_without_a_server() {
    let mut measured = Measured::new(Sampling::Percent(30));
    for _ in 0..1000 {
        measured.room.b("PUB my.foo 0\r\n\r\n");
        measured.room.a("");
    }
    let count = measured.latencies().len();
    assert!((200..400).contains(&count), "{count}");
    let mut measured = Measured::new(Sampling::Headers);
    measured.room.b("PUB my.foo 0\r\n\r\n");
    let header = "NATS/1.0\r\nB3: d\r\n\r\n";
    let len = header.len();
    let request = format!("HPUB my.foo {len} {len}\r\n{header}\r\n");
    measured.room.b(&request);
    assert_eq!(measured.latencies(), ["A lat.A: B BadRequest"]);
    let Measured { mut room, _own } = measured;
    drop(_own);
    room.b(&request);
    let mut taken = Vec::new();
    room.harness
        .engine
        .take_reports(9, &mut taken, Waker::noop());
    assert!(taken.is_empty(), "{taken:?}");
}

#[test]
fn details_are_told_where_they_are_shared() {
    let mut access = chain(ResponseType::Singleton);
    if let Some(Import::Service(import)) = access.accounts[1].imports.first_mut() {
        import.share = true;
    }
    let mut room = Room::new(access);
    room.harness.engine.set_calendar(|_| "then".to_owned());
    room.a("SUB svc.* 2\r\n");
    room.b("PUB my.foo 0\r\n\r\n");
    let info = r#"{"start":"then","id":2,"acc":"B","user":"b","rtt":1,"kind":"Client","client_type":"nats"}"#;
    let received = room.a("");
    assert!(received.contains(info), "{received:?}");
    // Who is two accounts away did not agree to it.
    room.c("PUB c 0\r\n\r\n");
    let received = room.a("");
    assert!(
        received.contains(r#"Info: {"acc":"C","svc":"B","rtt":1}"#),
        "{received:?}"
    );
}
