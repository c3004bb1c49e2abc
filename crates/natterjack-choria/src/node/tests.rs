//! Requests to a node, without a socket: who is answered, what, and who is not.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::json;
use tokio::sync::Notify;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::*;
use crate::client::{Asker, Exchange, Question};
use crate::connector::OutgoingReply;
use crate::filter::Filter;
use crate::identity::CallerId;
use crate::pattern::NamePatterns;
use crate::rpc::{PING, Values, is_pong};
use crate::trust::Authorities;
use crate::wire::{Federation, Reply, SigningKey};

const KEY: &str = include_str!("../../tests/data/rip.mcollective.key.pem");
const RIP: &str = "rip.mcollective";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Somebody with a certificate of this name, who signs with the test's key.
fn asker(authority: &Issuer, certname: &str) -> Asker {
    let mut params = CertificateParams::new(vec![certname.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, certname);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::from_pem(KEY).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Asker::new(
        Identity::new("client.example.net").unwrap(),
        CallerId::of_certificate(certname).unwrap(),
        SigningKey::from_pem(KEY.as_bytes()).unwrap(),
        &certificate.pem(),
        Duration::from_secs(60),
    )
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_289_687)
}

fn builder(authority: &Issuer) -> NodeBuilder {
    let admission = Admission::new(
        Authorities::from_pem(authority.pem().as_bytes()).unwrap(),
        NamePatterns::new(&[r"/\.mcollective$/".to_owned()]).unwrap(),
        NamePatterns::default(),
        Collectives::default(),
        None,
    );
    let identity = Identity::new("node1.example.net").unwrap();
    NodeBuilder::new(identity, Collectives::default(), admission).with_knowledge(Knowledge {
        facts: json!({"os": {"family": "Debian"}, "processors": 2}),
        classes: vec!["apache".into()],
    })
}

/// A request on its way.
struct Asked {
    id: String,
    message: Transport,
}

fn ask(asker: &Asker, agent: &str, body: &str, filter: &Filter) -> Asked {
    let question = Question {
        collective: "mcollective",
        agent,
        body,
        filter,
    };
    let signed = asker.sign(&question, now());
    let reply_to = Collectives::default().reply("mcollective", asker.caller(), 4711, 1);
    let headers = Headers {
        sender: Some("client.example.net".into()),
        reply_to: Some(reply_to.unwrap()),
        ..Headers::default()
    };
    Asked {
        id: signed.id,
        message: Transport {
            content: signed.content,
            headers,
        },
    }
}

/// Somebody who may ask, and a node.
struct World {
    rip: Asker,
    node: Node,
}

impl World {
    fn new(complete: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        let authority = authority();
        Self {
            rip: asker(&authority, RIP),
            node: complete(builder(&authority)).build(now()),
        }
    }

    fn plain() -> Self {
        Self::new(|builder| builder)
    }

    fn action(&self, agent: &str, action: &str, data: Values) -> Asked {
        let request = ActionRequest::new(agent, action, self.rip.caller(), data);
        ask(&self.rip, agent, &request.to_text(), &Filter::default())
    }

    /// The answer to an action, which must be one.
    async fn answer(&self, agent: &str, action: &str, data: Values) -> ActionReply {
        let request = self.action(agent, action, data);
        let answer = answer_of(self.node.take(&request.message, now())).await;
        reply_of(&request, &answer.expect("an answer"))
    }
}

async fn answer_of(taken: Taken) -> Option<OutgoingReply> {
    match taken {
        Taken::Nothing => None,
        Taken::Answer(answer) => Some(answer),
        Taken::Work(work) => work.perform().await,
    }
}

/// What an asker makes of an answer.
fn opened(request: &Asked, agent: &str, answer: &OutgoingReply) -> Reply {
    assert_eq!(answer.request, request.message.headers);
    let mut exchange = Exchange::new(&request.id, agent, None);
    exchange.take(&answer.content).unwrap().reply
}

fn reply_of(request: &Asked, answer: &OutgoingReply) -> ActionReply {
    let agent = {
        let text = SecureReply::open(&answer.content).unwrap();
        Reply::from_text(&text).unwrap().agent
    };
    ActionReply::from_text(&opened(request, &agent, answer).body).unwrap()
}

fn arguments<const N: usize>(pairs: [(&str, serde_json::Value); N]) -> Values {
    agent::values(pairs)
}

#[tokio::test]
async fn pings_of_all_forms_are_answered() {
    let world = World::plain();
    for body in [PING, "ping", "cGluZw=="] {
        let request = ask(&world.rip, DISCOVERY, body, &Filter::default());
        let answer = answer_of(world.node.take(&request.message, now())).await;
        let reply = opened(&request, DISCOVERY, &answer.expect("an answer"));
        assert!(is_pong(&reply.body), "{}", reply.body);
        assert_eq!(reply.sender.as_str(), "node1.example.net");
    }
    let request = ask(&world.rip, DISCOVERY, "hello", &Filter::default());
    assert!(matches!(
        world.node.take(&request.message, now()),
        Taken::Nothing
    ));
    let statistics = world.node.statistics();
    assert_eq!((statistics.passed, statistics.replies), (4, 3));
}

#[tokio::test]
async fn filters_decide_who_answers() {
    let world = World::plain();
    let is_answered = |filter: Filter| {
        let request = ask(&world.rip, DISCOVERY, PING, &filter);
        matches!(world.node.take(&request.message, now()), Taken::Answer(_))
    };
    let fact = |text: &str| Filter {
        fact: vec![text.parse().unwrap()],
        ..Filter::default()
    };
    assert!(is_answered(fact("os.family=debian")));
    assert!(is_answered(fact("processors>=2")));
    assert!(!is_answered(fact("os.family=RedHat")));
    let class = |name: &str| Filter {
        cf_class: vec![name.into()],
        ..Filter::default()
    };
    assert!(is_answered(class("/^apa/")) && !is_answered(class("mysql")));
    let agent = |name: &str| Filter {
        agent: vec![name.into()],
        ..Filter::default()
    };
    assert!(is_answered(agent("rpcutil")) && !is_answered(agent("puppet")));
    let identity = |name: &str| Filter {
        identity: vec![name.into(), "another".into()],
        ..Filter::default()
    };
    assert!(is_answered(identity("/^node/")) && !is_answered(identity("node1")));
    let compound = Filter {
        compound: vec![json!([{"statement": "apache"}])],
        ..Filter::default()
    };
    assert!(!is_answered(compound));
    assert_eq!(world.node.statistics().filtered, 5);
}

#[tokio::test]
async fn strangers_hear_nothing_and_are_counted() {
    let world = World::plain();
    let elsewhere = authority();
    let stranger = asker(&elsewhere, RIP);
    let request = ask(&stranger, DISCOVERY, PING, &Filter::default());
    let is_dropped =
        |message: &Transport, now| matches!(world.node.take(message, now), Taken::Nothing);
    assert!(is_dropped(&request.message, now()));

    let good = ask(&world.rip, DISCOVERY, PING, &Filter::default());
    let mut forged = good.message.clone();
    let at = forged
        .content
        .windows(9)
        .position(|text| text == b"discovery");
    forged.content[at.unwrap()] = b'x';
    assert!(is_dropped(&forged, now()));
    let mut elsewhere = good.message.clone();
    elsewhere.headers.reply_to = Some("mcollective.node.node2.example.net".into());
    assert!(is_dropped(&elsewhere, now()));
    assert_eq!(world.node.statistics().unvalidated, 3);

    assert!(is_dropped(&good.message, now() + Duration::from_secs(61)));
    let statistics = world.node.statistics();
    assert_eq!((statistics.out_of_date, statistics.validated), (1, 1));

    assert!(!is_dropped(&good.message, now()));
    assert!(is_dropped(&good.message, now()), "it was there before");
    let statistics = world.node.statistics();
    assert_eq!((statistics.total, statistics.unvalidated), (6, 4));
    assert_eq!(statistics.replies, 1);
}

#[tokio::test]
async fn rpcutil_tells_about_the_node() {
    let world = World::plain();
    let ok = async |action: &str, data: Values| {
        let reply = world.answer(RPCUTIL, action, data).await;
        assert_eq!((reply.status, reply.message.as_str()), (Status::Ok, "OK"));
        serde_json::Value::Object(reply.data)
    };
    let none = Values::new;
    assert_eq!(ok("ping", none()).await, json!({"pong": 1_795_289_687}));
    let inventory = ok("inventory", none()).await;
    assert_eq!(inventory["agents"], json!(["discovery", "rpcutil"]));
    assert_eq!(inventory["classes"], json!(["apache"]));
    assert_eq!(inventory["facts"]["os"]["family"], "Debian");
    assert_eq!(inventory["main_collective"], "mcollective");
    let get = |name: &str, value: &str| arguments([(name, value.into())]);
    assert_eq!(
        ok("get_fact", get("fact", "os.family")).await,
        json!({"fact": "os.family", "value": "Debian"})
    );
    assert_eq!(
        ok("get_fact", get("fact", "none")).await,
        json!({"fact": "none", "value": null})
    );
    assert_eq!(
        ok("get_facts", get("facts", "processors, os.family,x")).await,
        json!({"values": {"processors": 2, "os.family": "Debian", "x": null}})
    );
    assert_eq!(
        ok("collective_info", none()).await,
        json!({"main_collective": "mcollective", "collectives": ["mcollective"]})
    );
    assert_eq!(
        ok("get_config_item", get("item", "collectives")).await,
        json!({"item": "collectives", "value": ["mcollective"]})
    );
    let agents = ok("agent_inventory", none()).await;
    assert_eq!(agents["agents"][0]["agent"], "discovery");
    assert_eq!(agents["agents"][1]["agent"], "rpcutil");
    assert_eq!(agents["agents"][1]["timeout"], 2);
    let statistics = ok("daemon_stats", none()).await;
    assert_eq!(statistics["pid"], std::process::id());
    assert_eq!(statistics["starttime"], 1_795_289_687);
    assert_eq!(
        (&statistics["total"], &statistics["replies"]),
        (&json!(9), &json!(8))
    );
}

#[tokio::test]
async fn what_cannot_be_done_has_its_status() {
    let world = World::plain();
    let status = async |agent: &str, action: &str, data: Values| {
        let reply = world.answer(agent, action, data).await;
        (reply.status, reply.message)
    };
    let (code, message) = status(RPCUTIL, "dance", Values::new()).await;
    assert_eq!(code, Status::UnknownAction);
    assert_eq!(message, "Unknown action 'dance' for agent 'rpcutil'");
    let (code, message) = status("puppet", "status", Values::new()).await;
    assert_eq!(code, Status::UnknownAction);
    assert_eq!(message, "Unknown action 'status' for agent 'puppet'");
    let (code, _) = status(RPCUTIL, "get_fact", Values::new()).await;
    assert_eq!(code, Status::MissingData);
    let (code, _) = status(RPCUTIL, "get_fact", arguments([("fact", json!(7))])).await;
    assert_eq!(code, Status::InvalidData);
    let item = arguments([("item", "plugin.choria.nothing".into())]);
    assert_eq!(
        status(RPCUTIL, "get_config_item", item).await.0,
        Status::Aborted
    );

    for body in ["", "[]", r#"{"agent":"puppet","action":"ping","data":{}}"#] {
        let request = ask(&world.rip, RPCUTIL, body, &Filter::default());
        let answer = answer_of(world.node.take(&request.message, now())).await;
        let reply = reply_of(&request, &answer.expect("an answer"));
        assert_eq!(reply.status, Status::InvalidData, "{body}");
    }
}

/// Does what the action's name says.
struct Restless;

impl Agent for Restless {
    fn description(&self) -> Description {
        let actions = ["echo", "panic", "wait", "who"];
        Description::new("restless", &actions).with_timeout(Duration::from_millis(50))
    }

    async fn handle(&self, call: Call) -> ActionReply {
        match call.request.action.as_str() {
            "panic" => panic!("not for the caller's eyes"),
            "wait" => std::future::pending().await,
            "who" => ActionReply::ok(arguments([
                ("caller", call.caller.as_str().into()),
                ("signed_by", call.signed_by.into()),
                ("sender", call.sender.as_str().into()),
            ])),
            _ => ActionReply::ok(call.request.data),
        }
    }
}

#[tokio::test]
async fn agents_of_others_do_no_harm() {
    let world = World::new(|builder| builder.with_agent(Restless).unwrap().with_working_max(1));
    assert_eq!(world.node.agents(), ["discovery", "restless", "rpcutil"]);
    let echo = arguments([("a", json!([1, {"b": null}])), ("z", "ä\n".into())]);
    let reply = world.answer("restless", "echo", echo.clone()).await;
    assert_eq!(reply.data["a"], echo["a"]);
    assert_eq!(reply.data["z"], "ä\n");
    let reply = world.answer("restless", "who", Values::new()).await;
    assert_eq!(
        serde_json::Value::Object(reply.data),
        json!({"caller": "choria=rip.mcollective", "signed_by": RIP, "sender": "client.example.net"})
    );
    let reply = world.answer("restless", "panic", Values::new()).await;
    assert_eq!(reply.status, Status::UnknownError);
    assert!(!reply.message.contains("eyes"), "{}", reply.message);

    // The one place is taken until that work is done.
    let waiting = world.action("restless", "echo", Values::new());
    let Taken::Work(work) = world.node.take(&waiting.message, now()) else {
        panic!("work");
    };
    let reply = world.answer("restless", "echo", Values::new()).await;
    assert_eq!(reply.status, Status::Aborted);
    assert_eq!(world.node.statistics().refused_busy, 1);
    assert!(work.perform().await.is_some());
    let reply = world.answer("restless", "echo", Values::new()).await;
    assert_eq!(reply.status, Status::Ok);
    let reply = world.answer("restless", "wait", Values::new()).await;
    assert_eq!(
        reply.message,
        "the agent restless did not finish wait within 50ms"
    );
}

/// Where a server takes answers slowly, those that wait would take all memory.
#[tokio::test]
async fn a_place_is_free_again_when_the_answer_is_out() {
    let World { rip, node } =
        World::new(|builder| builder.with_agent(Restless).unwrap().with_working_max(1));
    let taken = || {
        let request = ActionRequest::new("restless", "echo", rip.caller(), Values::new());
        let asked = ask(&rip, "restless", &request.to_text(), &Filter::default());
        node.take(&asked.message, now())
    };
    let Taken::Work(work) = taken() else {
        panic!("work");
    };
    let (begun, goes_on) = (Notify::new(), Notify::new());
    let finished = serve::finish(&node, *work, |_| async {
        begun.notify_one();
        goes_on.notified().await;
        Ok(1)
    });
    let looked = async {
        begun.notified().await;
        let is_busy = matches!(taken(), Taken::Answer(_));
        goes_on.notify_one();
        is_busy
    };
    let ((), is_busy) = tokio::join!(finished, looked);
    assert!(is_busy, "the answer is not out yet");
    assert!(matches!(taken(), Taken::Work(_)));
}

/// What the log hears, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{value:?} ");
            }
        }
        if *event.metadata().level() <= tracing::Level::WARN {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
}

/// Also who may ask does not make the log grow.
#[tokio::test]
async fn the_log_has_its_bounds() {
    const COUNT: usize = 200;
    let log = Log::default();
    // A second one, so that what is logged here does not depend on what other tests want to hear.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let heard = || std::mem::take(&mut *log.0.lock().unwrap());
    let world = World::new(|builder| builder.with_agent(Restless).unwrap());
    let endless = "/(\u{1b}[2J\n".to_owned() + &"x".repeat(5000) + "/";
    for _ in 0..COUNT {
        let filter = Filter {
            cf_class: vec![endless.clone()],
            ..Filter::default()
        };
        let asked = ask(&world.rip, DISCOVERY, "ping", &filter);
        assert!(matches!(
            world.node.take(&asked.message, now()),
            Taken::Nothing
        ));
        let asked = ask(&world.rip, DISCOVERY, "who?", &Filter::default());
        assert!(matches!(
            world.node.take(&asked.message, now()),
            Taken::Nothing
        ));
    }
    let lines = heard();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].chars().count() < 700, "{lines:?}");
    assert!(!lines[0].contains('\u{1b}') && !lines[0].contains('\n'));
    for _ in 0..COUNT {
        let reply = world.answer("restless", "panic", Values::new()).await;
        assert_eq!(reply.status, Status::UnknownError);
    }
    let lines = heard();
    assert!((1..COUNT).contains(&lines.len()), "{}", lines.len());
    assert!(lines[0].contains("the agent restless panicked at panic"));
}

#[tokio::test]
async fn who_wants_no_answer_gets_none() {
    let world = World::new(|builder| builder.with_agent(Restless).unwrap());
    for action in ["echo", "dance", "panic"] {
        let request = ActionRequest::new("restless", action, world.rip.caller(), Values::new());
        let body = request.without_answer().to_text();
        let request = ask(&world.rip, "restless", &body, &Filter::default());
        assert_eq!(
            answer_of(world.node.take(&request.message, now())).await,
            None
        );
    }
    let statistics = world.node.statistics();
    assert_eq!((statistics.passed, statistics.replies), (3, 0));
}

#[tokio::test]
async fn answers_through_a_federation_keep_its_header() {
    let world = World::plain();
    let request = ask(&world.rip, DISCOVERY, PING, &Filter::default());
    let mut message = request.message;
    message.headers.federation = Some(Federation {
        request: Some(request.id),
        targets: Vec::new(),
        reply_to: message.headers.reply_to.take(),
    });
    message.headers.reply_to = Some("choria.federation.london.collective".into());
    let answer = answer_of(world.node.take(&message, now())).await.unwrap();
    assert_eq!(answer.request, message.headers);
}

#[test]
fn agents_have_names_of_their_own() {
    struct Named(&'static str);
    impl Agent for Named {
        fn description(&self) -> Description {
            Description::new(self.0, &["x"])
        }
        async fn handle(&self, _: Call) -> ActionReply {
            ActionReply::ok(Values::new())
        }
    }
    let authority = authority();
    let add = |name| builder(&authority).with_agent(Named(name)).map(drop);
    assert_eq!(add("mine"), Ok(()));
    for name in [DISCOVERY, RPCUTIL] {
        assert_eq!(add(name), Err(AgentError::Twice(name.into())));
    }
    assert!(matches!(add("a.>"), Err(AgentError::Name(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever arrives, and whatever somebody who may ask has signed.
    #[test]
    fn nothing_panics(content: Vec<u8>, body: String, agent in "[a-z]{1,9}|rpcutil|discovery") {
        let world = World::plain();
        let message = Transport { content, headers: Headers::default() };
        prop_assert!(matches!(world.node.take(&message, now()), Taken::Nothing));
        let signed = ask(&world.rip, &agent, &body, &Filter::default());
        let _ = world.node.take(&signed.message, now());
    }
}
