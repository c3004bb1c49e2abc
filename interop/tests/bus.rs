//! The event bus and programs without its library: raw publishers in three languages send events in every form there is,
//! read what the bus sends, and ask it a question. Behind our server and behind the real one.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use libtest_mimic::Trial;
use natterjack_bus::settings::{Endpoint, TransportKind};
use natterjack_bus::{
    DecodeError, Event, EventBus, EventStream, Fault, FaultStream, Publish, Settings,
};
use serde::{Deserialize, Serialize};
use testkit::{Config, Kind, PATIENCE, Program, ServerUnderTest};
use tokio::time::timeout;

use crate::libraries::Library;
use crate::trial;

/// How long all of it may take.
const TIME_MAX: Duration = Duration::from_secs(60);

const SUBJECT: &str = "counting";
const TYPE: &str = "com.example.counted.v1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    n: u64,
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for stranger in Library::ALL {
        for kind in Kind::ALL {
            let name = format!("bus::strangers::{}::{}", stranger.name(), kind.name());
            let needs = [stranger.available(), kind.program().map(drop)];
            trials.push(trial(name, needs, move || play(stranger, kind)));
        }
    }
    trials
}

fn play(stranger: Library, kind: Kind) {
    let server = ServerUnderTest::start(kind, &Config::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime needs only memory and an epoll");
    let played = async {
        let bus = start(&server).await;
        let url = server.url();
        // Its question may come any time until it is content.
        let increment =
            |question: Event<Counted>| async move { Ok::<_, Infallible>(question.data.n + 1) };
        let _answering = bus.answer(increment).expect("nobody answers yet");
        let ears = Ears {
            faults: bus.faults(),
            events: bus.subscribe(),
            keyed: bus.subscription().key("k").start(),
        };
        match stranger.command("bus") {
            Some(mut command) => {
                command.args([&url, SUBJECT]);
                let mut script = Program::spawn(&mut command).expect("it can be started");
                meet(&bus, ears).await;
                let ended = tokio::task::spawn_blocking(move || {
                    let status = script.wait_for_exit(TIME_MAX);
                    (status, script.output())
                });
                let (status, output) = ended.await.expect("waiting cannot fail");
                assert!(status.is_some_and(|status| status.success()), "{output}");
            }
            None => {
                tokio::join!(meet(&bus, ears), play_raw(&url));
            }
        }
        bus.drain().await.expect("all is delivered");
    };
    runtime.block_on(async {
        timeout(TIME_MAX, played)
            .await
            .expect("it did not end in time");
    });
}

async fn start(server: &ServerUnderTest) -> EventBus<Counted> {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    let address = server.address();
    settings.nats.client.name = "natterjack".into();
    settings.nats.client.subject = SUBJECT.into();
    settings.nats.client.event_type = TYPE.into();
    settings.nats.client.endpoint = Some(Endpoint {
        scheme: "nats".into(),
        host: address.ip().to_string(),
        port: address.port(),
    });
    let bus = EventBus::start(settings).await.expect("the bus starts");
    timeout(PATIENCE, bus.ready()).await.expect("a connection");
    bus
}

/// What we listen with, from before the stranger comes.
struct Ears {
    faults: FaultStream,
    events: EventStream<Counted>,
    keyed: EventStream<Counted>,
}

/// Our side: five events in order, two faults, an event in return, an answer.
async fn meet(bus: &EventBus<Counted>, ears: Ears) {
    let Ears {
        mut faults,
        mut events,
        mut keyed,
    } = ears;
    let received: Vec<_> = events.by_ref().take(5).collect().await;
    let numbers: Vec<_> = received.iter().map(|event| event.data.n).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let [plain, binary, structured, bare, _] = &received[..] else {
        panic!("five were taken")
    };
    assert_eq!(
        (plain.source.as_str(), plain.kind.as_str()),
        (SUBJECT, "unknown")
    );
    assert_eq!((binary.id.as_str(), binary.kind.as_str()), ("b1", TYPE));
    assert!(binary.source.contains(' '), "decoded: {}", binary.source);
    assert_eq!((binary.subject(), binary.key()), (Some("two"), Some("k")));
    assert_eq!((structured.id.as_str(), bare.id.as_str()), ("s3", "s4"));
    assert!(received.iter().all(|event| !event.is_own()));
    assert_eq!(keyed.next().await.expect("one has the key").data.n, 2);
    for is_expected in [
        |reason: &DecodeError| matches!(reason, DecodeError::NotJson(_)),
        |reason: &DecodeError| matches!(reason, DecodeError::SpecVersion(_)),
    ] {
        match faults.next().await.expect("the bus is open") {
            Fault::Undecodable { reason, .. } if is_expected(&reason) => {}
            other => panic!("{other}"),
        }
    }
    let publish = Publish {
        key: Some("agent 7".into()),
        subject: Some("hundred".into()),
        ..Publish::default()
    };
    let hundred = Counted { n: 100 };
    bus.publish_with(&hundred, publish).await.expect("accepted");
    assert!(events.next().await.expect("our own").is_own());
}

/// What the scripts do.
async fn play_raw(url: &str) {
    let client = async_nats::connect(url).await.expect("the server answers");
    let mut messages = client.subscribe(SUBJECT).await.expect("accepted");
    let structured = |number: u64| {
        format!(
            r#"{{"specversion":"1.0","id":"s{number}","source":"rust","type":"{TYPE}","data":{{"n":{number}}}}}"#
        )
    };
    let carrying = |entries: &[(&str, &str)]| -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in entries {
            headers.insert(*name, *value);
        }
        headers
    };
    let binary = |version| {
        carrying(&[
            ("Ce-Specversion", version),
            ("Ce-Id", "b1"),
            ("Ce-Source", "/ru%20st"),
            ("Ce-Type", TYPE),
            ("Ce-Subject", "two"),
            ("Ce-Routingkey", "k"),
        ])
    };
    let cloud_event = carrying(&[(
        "Content-Type",
        "application/cloudevents+json; charset=utf-8",
    )]);
    let none = HeaderMap::new();
    for (headers, payload) in [
        (none.clone(), r#"{"n":1}"#.to_string()),
        (binary("1.0"), r#"{"n":2}"#.into()),
        (cloud_event, structured(3)),
        (none.clone(), structured(4)),
        (none.clone(), "not JSON".into()),
        (binary("2.0"), r#"{"n":0}"#.into()),
        (none, r#"{"n":5}"#.into()),
    ] {
        let sent = client.publish_with_headers(SUBJECT, headers, payload.into());
        sent.await.expect("accepted");
    }
    let headers = loop {
        let message = messages.next().await.expect("subscribed");
        let Some(headers) = message.headers else {
            continue;
        };
        if headers
            .get("ce-source")
            .is_some_and(|source| source.as_str() == "natterjack")
        {
            assert_eq!(message.payload, r#"{"n":100}"#);
            break headers;
        }
    };
    let header = |name: &str| headers.get(name).map_or("", |value| value.as_str());
    assert_eq!((header("ce-specversion"), header("ce-type")), ("1.0", TYPE));
    assert_eq!(
        (header("ce-subject"), header("ce-routingkey")),
        ("hundred", "agent%207")
    );
    let question = client.request(format!("{SUBJECT}.ask"), structured(41).into());
    let answer: serde_json::Value =
        serde_json::from_slice(&question.await.expect("an answer").payload).expect("JSON");
    assert_eq!(
        (&answer["answer"], &answer["data"]),
        (&"ok".into(), &42.into())
    );
}
