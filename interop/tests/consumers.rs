//! What programs that watch nats-server ask of it and read in its answers: nats-top, prometheus-nats-exporter,
//! nats-surveyor and natscli, a table for each. Both servers are asked the same after the same has happened, and every field that
//! such a program reads is there on both with a value of the same kind, or on neither. Whether whole pages are the same
//! is tested elsewhere (`monitoring.rs`, `system.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use libtest_mimic::Trial;
use serde_json::Value;
use testkit::cluster::{Client, Cluster, Login, Message, Plan};
use testkit::{Kind, PATIENCE, ask_until};

use crate::{monitoring, trial};

const A: Login = Login::user("a", "p");
const OPERATOR: Login = Login::user("sys", "p");

const SERVER: &str = "accounts {
        S { users: [{user: sys, password: p}] }
        A { users: [{user: a, password: p}] }
        UNUSED { users: [{user: u, password: p}] }
    }
    system_account: S";

/// Servers in each cluster, so that there are routes to be told of.
const KINDS: [[Kind; 2]; 2] = [[Kind::NatsServer; 2], [Kind::Natterjack; 2]];

/// A request and what becomes of its answer.
struct Ask {
    question: Question,
    /// Paths to what is read, of which the real server has each; `*` is every step there is.
    reads: &'static [&'static str],
    /// Paths to what is read where it is there, and which a server without what they are about does not have.
    absent: &'static [&'static str],
    /// Whether every number is read, whatever its name, and a time as well.
    reads_all: bool,
}

enum Question {
    /// By HTTP.
    Page(&'static str),
    /// In the system account, with a payload. All servers of a cluster answer.
    Subject(&'static str, &'static str),
}

use Question::{Page, Subject};

const fn ask(question: Question, reads: &'static [&'static str]) -> Ask {
    Ask {
        question,
        reads,
        absent: &[],
        reads_all: false,
    }
}

impl Ask {
    const fn without(mut self, absent: &'static [&'static str]) -> Self {
        self.absent = absent;
        self
    }

    const fn and_all_numbers(mut self) -> Self {
        self.reads_all = true;
        self
    }
}

/// Of `/connz`, for its table.
const TOP_CONNECTIONS: &[&str] = &[
    "num_connections",
    "connections/*/cid",
    "connections/*/ip",
    "connections/*/port",
    "connections/*/name",
    "connections/*/subscriptions",
    "connections/*/pending_bytes",
    "connections/*/in_msgs",
    "connections/*/in_bytes",
    "connections/*/out_msgs",
    "connections/*/out_bytes",
    "connections/*/lang",
    "connections/*/version",
    "connections/*/uptime",
    "connections/*/last_activity",
];

/// nats-top: both pages in every round, connections in the order that was chosen.
const TOP: &[Ask] = &[
    ask(
        Page("/varz"),
        &[
            "server_id",
            "server_name",
            "version",
            "now",
            "uptime",
            "cpu",
            "mem",
            "slow_consumers",
            "in_msgs",
            "in_bytes",
            "out_msgs",
            "out_bytes",
        ],
    ),
    ask(Page("/connz?limit=1024&sort=cid"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=start"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=subs"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=pending"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=msgs_to"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=msgs_from"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=bytes_to"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=bytes_from"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=last"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=idle"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=uptime"), TOP_CONNECTIONS),
    ask(Page("/connz?limit=1024&sort=rtt"), TOP_CONNECTIONS),
    // With the list of what each listens to.
    ask(
        Page("/connz?limit=1024&sort=cid&subs=1"),
        &["connections/*/subscriptions_list/*"],
    ),
];

/// Of an account's statistics, for both programs that read them.
macro_rules! account_statistics {
    ($start:literal) => {
        &[
            concat!($start, "account_statz/*/acc"),
            concat!($start, "account_statz/*/name"),
            concat!($start, "account_statz/*/conns"),
            concat!($start, "account_statz/*/leafnodes"),
            concat!($start, "account_statz/*/total_conns"),
            concat!($start, "account_statz/*/num_subscriptions"),
            concat!($start, "account_statz/*/sent/msgs"),
            concat!($start, "account_statz/*/sent/bytes"),
            concat!($start, "account_statz/*/received/msgs"),
            concat!($start, "account_statz/*/received/bytes"),
            concat!($start, "account_statz/*/slow_consumers"),
        ]
    };
}

/// Of `/jsz`, where there are streams and where there are not.
const JETSTREAM: &[&str] = &[
    "disabled",
    "config/max_memory",
    "config/max_storage",
    "streams",
    "consumers",
    "messages",
    "bytes",
];

/// prometheus-nats-exporter: a page for each of its flags.
const EXPORTER: &[Ask] = &[
    ask(Page("/varz"), &["server_id", "server_name"]).and_all_numbers(),
    ask(Page("/routez"), &["num_routes"]).and_all_numbers(),
    ask(Page("/subsz"), &["num_subscriptions"]).and_all_numbers(),
    ask(
        Page("/connz"),
        &["num_connections", "total", "offset", "limit"],
    ),
    ask(
        Page("/connz?auth=true"),
        &[
            "connections/*/cid",
            "connections/*/kind",
            "connections/*/type",
            "connections/*/ip",
            "connections/*/port",
            "connections/*/start",
            "connections/*/last_activity",
            "connections/*/rtt",
            "connections/*/uptime",
            "connections/*/idle",
            "connections/*/pending_bytes",
            "connections/*/in_msgs",
            "connections/*/out_msgs",
            "connections/*/in_bytes",
            "connections/*/out_bytes",
            "connections/*/subscriptions",
            "connections/*/name",
            "connections/*/name_tag",
            "connections/*/account",
            "connections/*/lang",
            "connections/*/version",
        ],
    )
    .without(&[
        "connections/*/tls_version",
        "connections/*/tls_cipher_suite",
    ]),
    ask(Page("/healthz"), &["status"]).without(&["error"]),
    ask(Page("/healthz?js-enabled-only=true"), &["status"]).without(&["error"]),
    ask(Page("/healthz?js-server-only=true"), &["status"]).without(&["error"]),
    ask(
        Page("/gatewayz"),
        &["outbound_gateways", "inbound_gateways"],
    )
    .without(&["name", "outbound_gateways/*", "inbound_gateways/*"]),
    ask(Page("/leafz"), &["leafnodes"]).without(&["leafs/*"]),
    ask(Page("/accstatz?unused=1"), account_statistics!("")),
    ask(Page("/accountz"), &["accounts/*"]),
    ask(
        Page("/accountz?acc=A"),
        &[
            "server_id",
            "account_detail/account_name",
            "account_detail/update_time",
            "account_detail/name_tag",
            "account_detail/expired",
            "account_detail/complete",
            "account_detail/jetstream_enabled",
            "account_detail/leafnode_connections",
            "account_detail/client_connections",
            "account_detail/subscriptions",
        ],
    )
    .without(&["account_detail/is_system", "account_detail/decoded_jwt"]),
    ask(Page("/accountz?acc=S"), &["account_detail/is_system"]),
    ask(Page("/jsz"), JETSTREAM).without(JETSTREAM_ABSENT),
    ask(Page("/jsz?accounts=true"), JETSTREAM).without(JETSTREAM_ABSENT),
    ask(Page("/jsz?streams=true"), JETSTREAM).without(JETSTREAM_ABSENT),
    ask(Page("/jsz?consumers=true&config=true&raft=true"), JETSTREAM).without(JETSTREAM_ABSENT),
];

const JETSTREAM_ABSENT: &[&str] = &["meta_cluster", "account_details", "config/domain"];

/// nats-surveyor: one request for all servers, and a request more for each of its flags.
const SURVEYOR: &[Ask] = &[
    ask(
        Subject("$SYS.REQ.SERVER.PING", ""),
        &[
            "server/name",
            "server/host",
            "server/id",
            "server/cluster",
            "server/ver",
            "server/jetstream",
            "statsz/start",
            "statsz/mem",
            "statsz/cores",
            "statsz/cpu",
            "statsz/connections",
            "statsz/total_connections",
            "statsz/active_accounts",
            "statsz/subscriptions",
            "statsz/sent/msgs",
            "statsz/sent/bytes",
            "statsz/received/msgs",
            "statsz/received/bytes",
            "statsz/slow_consumers",
            "statsz/routes/*/rid",
            "statsz/routes/*/name",
            "statsz/routes/*/sent/msgs",
            "statsz/routes/*/sent/bytes",
            "statsz/routes/*/received/msgs",
            "statsz/routes/*/received/bytes",
            "statsz/routes/*/pending",
        ],
    )
    .without(&[
        "server/domain",
        "statsz/gateways",
        "statsz/jetstream",
        "statsz/gomemlimit",
    ]),
    ask(
        Subject(
            "$SYS.REQ.ACCOUNT.PING.STATZ",
            r#"{"accounts":null,"include_unused":true}"#,
        ),
        account_statistics!("data/"),
    )
    .without(&["error"]),
    ask(
        Subject(
            "$SYS.REQ.ACCOUNT.PING.STATZ",
            r#"{"accounts":null,"include_unused":true}"#,
        ),
        &[
            "server/id",
            "data/account_statz/*/sent/routes/msgs",
            "data/account_statz/*/sent/routes/bytes",
            "data/account_statz/*/sent/gateways/msgs",
            "data/account_statz/*/sent/gateways/bytes",
            "data/account_statz/*/sent/leafs/msgs",
            "data/account_statz/*/sent/leafs/bytes",
            "data/account_statz/*/received/routes/msgs",
            "data/account_statz/*/received/routes/bytes",
            "data/account_statz/*/received/gateways/msgs",
            "data/account_statz/*/received/gateways/bytes",
            "data/account_statz/*/received/leafs/msgs",
            "data/account_statz/*/received/leafs/bytes",
        ],
    ),
    ask(
        Subject(
            "$SYS.REQ.SERVER.PING.GATEWAYZ",
            r#"{"name":"","accounts":false,"account_name":"","subscriptions":false,"subscriptions_detail":false}"#,
        ),
        &[
            "server/id",
            "server/name",
            "data/outbound_gateways",
            "data/inbound_gateways",
        ],
    )
    .without(&["error", "data/name", "data/outbound_gateways/*"]),
    ask(
        Subject(
            "$SYS.REQ.SERVER.PING.JSZ",
            r#"{"accounts":true,"streams":true,"consumer":true,"config":true,"limit":1024,"raft":true}"#,
        ),
        &[
            "server/id",
            "server/name",
            "server/cluster",
            "data/disabled",
            "data/config/max_memory",
            "data/config/max_storage",
            "data/streams",
            "data/consumers",
            "data/messages",
            "data/bytes",
        ],
    )
    .without(&[
        "error",
        "data/account_details",
        "data/meta_cluster",
        "data/streams_leader",
        "data/consumers_leader",
    ]),
    // There is nothing to be told of consensus.
    ask(
        Subject(
            "$SYS.REQ.SERVER.PING.RAFTZ",
            r#"{"account":"","group":"_meta_"}"#,
        ),
        &["server/id"],
    )
    .without(&["data/*"]),
];

/// natscli: `nats server` and `nats account`, without those of JetStream. It takes compressed answers, and others.
const CLI: &[Ask] = &[
    // `list`, `ping`, `report cpu`, `report mem`, `watch servers`; and how many servers are to answer, with all of them.
    ask(
        Subject("$SYS.REQ.SERVER.PING", "{}"),
        &[
            "server/name",
            "server/host",
            "server/id",
            "server/cluster",
            "server/ver",
            "server/jetstream",
            "server/time",
            "statsz/start",
            "statsz/mem",
            "statsz/cores",
            "statsz/cpu",
            "statsz/connections",
            "statsz/subscriptions",
            "statsz/slow_consumers",
            "statsz/active_servers",
            "statsz/routes/*/rid",
            "statsz/sent/msgs",
            "statsz/sent/bytes",
            "statsz/received/msgs",
            "statsz/received/bytes",
        ],
    )
    .without(&["server/domain", "statsz/gateways"]),
    // `info`, `config`, `graph`.
    ask(
        Subject("$SYS.REQ.SERVER.PING.VARZ", "{}"),
        &[
            "server/id",
            "server/name",
            "data/server_id",
            "data/server_name",
            "data/version",
            "data/go",
            "data/start",
            "data/now",
            "data/config_load_time",
            "data/config_digest",
            "data/uptime",
            "data/auth_required",
            "data/host",
            "data/port",
            "data/max_connections",
            "data/max_payload",
            "data/tls_timeout",
            "data/write_deadline",
            "data/cores",
            "data/cpu",
            "data/gomaxprocs",
            "data/mem",
            "data/connections",
            "data/subscriptions",
            "data/in_msgs",
            "data/out_msgs",
            "data/in_bytes",
            "data/out_bytes",
            "data/slow_consumers",
            "data/cluster/name",
            "data/cluster/addr",
            "data/cluster/cluster_port",
            "data/cluster/urls",
        ],
    )
    .without(&["error", "data/ip", "data/ws_connect_urls", "data/jetstream/config", "data/gateway/gateways"]),
    // `report connections`, `report accounts`, `account report connections`, `request connections`.
    ask(
        Subject(
            "$SYS.REQ.SERVER.PING.CONNZ",
            r#"{"sort":"","auth":true,"subscriptions":true,"subscriptions_detail":false,"offset":0,"limit":1024,"cid":0,"mqtt_client":"","state":0,"user":"","acc":"A","filter_subject":""}"#,
        ),
        &[
            "server/id",
            "server/name",
            "server/cluster",
            "data/total",
            "data/offset",
            "data/limit",
            "data/connections/*/cid",
            "data/connections/*/kind",
            "data/connections/*/name",
            "data/connections/*/ip",
            "data/connections/*/port",
            "data/connections/*/account",
            "data/connections/*/authorized_user",
            "data/connections/*/start",
            "data/connections/*/last_activity",
            "data/connections/*/uptime",
            "data/connections/*/in_msgs",
            "data/connections/*/out_msgs",
            "data/connections/*/in_bytes",
            "data/connections/*/out_bytes",
            "data/connections/*/lang",
            "data/connections/*/version",
        ],
    )
    .without(&["error"]),
    ask(
        Subject(
            "$SYS.REQ.SERVER.PING.CONNZ",
            r#"{"auth":true,"subscriptions":true,"state":0,"filter_subject":"a.*","acc":"A"}"#,
        ),
        &["data/connections/*/subscriptions_list/*", "data/total"],
    )
    .without(&["error"]),
    // `report health`, `check server`.
    ask(
        Subject("$SYS.REQ.SERVER.PING.HEALTHZ", r#"{"details":true}"#),
        &["server/name", "server/cluster", "data/status", "data/status_code"],
    )
    .without(&["error", "data/errors"]),
    // `report routes`.
    ask(
        Subject(
            "$SYS.REQ.SERVER.PING.ROUTEZ",
            r#"{"subscriptions":false,"subscriptions_detail":false}"#,
        ),
        &[
            "server/name",
            "server/cluster",
            "server/time",
            "data/routes/*/rid",
            "data/routes/*/remote_name",
            "data/routes/*/ip",
            "data/routes/*/port",
            "data/routes/*/start",
            "data/routes/*/rtt",
            "data/routes/*/subscriptions",
            "data/routes/*/in_bytes",
            "data/routes/*/out_bytes",
        ],
    )
    .without(&["error"]),
    // `report gateways`, `report leafnodes`.
    ask(
        Subject("$SYS.REQ.SERVER.PING.GATEWAYZ", r#"{"name":""}"#),
        &["server/name", "data/outbound_gateways", "data/inbound_gateways"],
    )
    .without(&["error"]),
    ask(
        Subject("$SYS.REQ.SERVER.PING.LEAFZ", r#"{"subscriptions":false,"account":""}"#),
        &["server/name", "data/leafnodes", "data/leafs"],
    )
    .without(&["error", "data/leafs/*"]),
    // `request subscriptions`, `request accounts`.
    ask(
        Subject("$SYS.REQ.SERVER.PING.SUBSZ", r#"{"subscriptions":true}"#),
        &["server/name", "data/num_subscriptions", "data/total", "data/subscriptions_list/*/subject"],
    )
    .without(&["error"]),
    ask(
        Subject("$SYS.REQ.SERVER.PING.ACCOUNTZ", r#"{"account":"A"}"#),
        &["server/name", "data/system_account", "data/account_detail/account_name"],
    )
    .without(&["error"]),
    // `server account info`, and `account report statistics` within one.
    ask(
        Subject("$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"accounts":["A"],"include_unused":true}"#),
        account_statistics!("data/"),
    )
    .without(&["error"]),
];

pub(crate) fn trials() -> Vec<Trial> {
    let tools = [
        ("nats_top", TOP),
        ("prometheus_nats_exporter", EXPORTER),
        ("nats_surveyor", SURVEYOR),
        ("natscli", CLI),
    ];
    let needs = || Kind::ALL.map(|kind| kind.program().map(drop));
    let tool = |(name, asks)| {
        trial(format!("consumers::{name}"), needs(), move || {
            reads_the_same(asks);
        })
    };
    tools.into_iter().map(tool).collect()
}

fn reads_the_same(asks: &[Ask]) {
    let mut scenes = KINDS.map(Scene::play);
    let mut problems = Vec::new();
    for ask in asks {
        let name = match ask.question {
            Page(path) => path,
            Subject(subject, _) => subject,
        };
        let [expected, found] = scenes.each_mut().map(|scene| scene.answers(&ask.question));
        let both = |path: &str| [&expected, &found].map(|answers| kinds(answers, path));
        for path in ask.reads {
            let [expected, found] = both(path);
            if expected.is_empty() || expected.contains(MISSING) && expected.len() == 1 {
                problems.push(format!("{name}: {path} is not on nats-server"));
            } else if expected != found {
                problems.push(format!("{name}: {path}: {expected:?} but {found:?}"));
            }
        }
        for path in ask.absent {
            for (server, kinds) in ["nats-server", "natterjack"].into_iter().zip(both(path)) {
                if kinds.iter().any(|kind| *kind != MISSING) {
                    problems.push(format!("{name}: {path} is on {server}: {kinds:?}"));
                }
            }
        }
        if ask.reads_all {
            let [expected, found] = [&expected, &found].map(|answers| measured(&answers[0]));
            assert!(!expected.is_empty(), "{name} has numbers");
            for path in expected.symmetric_difference(&found) {
                problems.push(format!("{name}: {path} is read of one only"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A cluster of two with clients that have told each other something.
struct Scene {
    cluster: Cluster,
    operator: Client,
    _clients: [Client; 2],
}

impl Scene {
    fn play(kinds: [Kind; 2]) -> Self {
        let plan = Plan::of(&kinds).logins(&[OPERATOR]).server(SERVER);
        let mut cluster = plan.start();
        cluster.wait_until_complete();
        let connect = |node: usize| {
            let more = serde_json::json!({ "name": "one", "lang": "test", "version": "1" });
            Client::connect_with(cluster.address(node), A, &more)
        };
        let mut clients = [0, 1].map(connect);
        clients[0].subscribe("a.*");
        clients[0].round_trip();
        cluster.wait_for_interest(1, A, "a.b", true);
        for client in &mut clients {
            client.publish("a.b", "hello");
            client.round_trip();
        }
        for _ in 0..cluster.len() {
            clients[0].next_message();
        }
        // Round trips are known once PINGs were answered.
        let is_known = |page: &str, list: &str| {
            let page = cluster.page(0, page);
            let all = page[list].as_array().expect("a list");
            !all.is_empty() && all.iter().all(|one| one["rtt"].is_string())
        };
        let is_known = || {
            for client in &mut clients {
                client.round_trip();
            }
            (is_known("/connz", "connections") && is_known("/routez", "routes")).then_some(())
        };
        let met = ask_until(PATIENCE, is_known);
        assert!(met.is_some(), "{}", cluster.page(0, "/connz"));
        Self {
            operator: Client::connect_as(cluster.address(0), OPERATOR),
            cluster,
            _clients: clients,
        }
    }

    /// What is answered, by each server that does.
    fn answers(&mut self, question: &Question) -> Vec<Value> {
        match question {
            Page(path) => vec![self.cluster.page(0, path)],
            Subject(subject, payload) => {
                const INBOX: &str = "_INBOX.survey";
                let inbox = self.operator.subscribe(INBOX);
                // Answers may be compressed, says this program, and some are.
                let headers = b"NATS/1.0\r\nAccept-Encoding: snappy\r\n\r\n";
                (self.operator).publish_with(subject, Some(INBOX), headers, payload);
                self.operator.flush();
                let answers = (0..self.cluster.len())
                    .map(|_| content(&self.operator.take_message_of(inbox)))
                    .collect();
                self.operator.unsubscribe(inbox, None);
                answers
            }
        }
    }
}

/// What an answer says, however it is encoded.
fn content(answer: &Message) -> Value {
    let headers = String::from_utf8_lossy(&answer.headers);
    let encoding = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == "Content-Encoding").then(|| value.trim())
    });
    match encoding {
        None => serde_json::from_slice(&answer.payload).expect("JSON"),
        Some("snappy") => {
            let mut text = Vec::new();
            let mut reader = minlz::Reader::new(&answer.payload[..]);
            reader.read_to_end(&mut text).expect("compressed");
            serde_json::from_slice(&text).expect("JSON")
        }
        Some(other) => panic!("{other} was not asked for"),
    }
}

const MISSING: &str = "nothing";

/// What is found at a path, in all answers.
fn kinds(answers: &[Value], path: &str) -> BTreeSet<&'static str> {
    fn walk(value: &Value, steps: &[&str], found: &mut BTreeSet<&'static str>) {
        let Some((step, steps)) = steps.split_first() else {
            found.insert(kind(value));
            return;
        };
        match (value, *step) {
            (Value::Array(items), "*") => {
                for item in items {
                    walk(item, steps, found);
                }
            }
            (Value::Object(fields), "*") => {
                for field in fields.values() {
                    walk(field, steps, found);
                }
            }
            (value, step) => match value.get(step) {
                Some(value) => walk(value, steps, found),
                None => drop(found.insert(MISSING)),
            },
        }
    }
    let steps: Vec<&str> = path.split('/').collect();
    let mut found = BTreeSet::new();
    for answer in answers {
        walk(answer, &steps, &mut found);
        // Programs in Go read a fraction of a percent, and whole numbers of everything else.
        if path.ends_with("cpu") && found.remove("a whole number") {
            found.insert("a number");
        }
    }
    found
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => "a whole number",
        value => monitoring::kind(value),
    }
}

/// Paths of everything of which the exporter makes a metric whatever its name: numbers and times that are not in lists.
fn measured(page: &Value) -> BTreeSet<String> {
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, &'static str>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            // These tell only what was asked for before.
            if name == "http_req_stats" {
                continue;
            }
            let path = format!("{path}/{name}");
            match kind(value) {
                "an object" => walk(&path, value, found),
                kind @ ("a number" | "a whole number" | "a time") => {
                    found.insert(path, kind);
                }
                _ => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", page, &mut found);
    found.into_keys().collect()
}
