//! Questions between nodes, and with programs that do not use this library.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use natterjack_bus::settings::TransportKind;
use natterjack_bus::{AskError, Event, EventBus, Overflow};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::world::{DEADLINE, Note, World, note, take, within};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Square {
    of: u64,
}

const SQUARE: &str = "com.example.square.v1";

over_every_transport!(
    a_node_answers,
    who_answers_nothing_says_so,
    who_is_not_there_says_nothing,
    why_there_is_no_answer_is_told,
    a_handler_that_panics_is_an_answer,
    a_question_overtakes_events_that_wait,
    questions_are_no_events,
    a_handler_answers_until_it_is_dropped,
    an_answer_of_another_type_is_told,
    a_drain_waits_for_answers,
    a_handler_without_an_end_costs_no_event_its_confirmation,
);

/// No question here takes as long.
const SHORT: Duration = Duration::from_millis(200);

async fn square(question: Event<Square>) -> Result<u64, Infallible> {
    Ok(question.data.of * question.data.of)
}

fn squares(bus: &EventBus<Note>) -> EventBus<Square> {
    bus.with_type(SQUARE)
}

async fn a_node_answers(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let _answering = squares.answer(square).unwrap();
    for of in 1..20 {
        let answer: u64 = squares.ask("a", &Square { of }, DEADLINE).await.unwrap();
        assert_eq!(answer, of * of);
    }
    let answers = squares
        .ask_all::<u64>(&Square { of: 9 }, DEADLINE)
        .await
        .unwrap();
    let answers: Vec<_> = within("answers", answers.take(1).collect()).await;
    let answer = answers[0].as_ref().unwrap();
    assert_eq!((answer.source.as_str(), answer.data), ("a", 81));
}

async fn who_answers_nothing_says_so(world: World) {
    let bus = world.bus("a").await;
    let error = squares(&bus)
        .ask::<u64>("a", &Square { of: 1 }, DEADLINE)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::NotAnswering { .. }), "{error}");
    let answers = squares(&bus)
        .ask_all::<u64>(&Square { of: 1 }, 2 * DEADLINE)
        .await
        .unwrap();
    assert_eq!(within("answers", answers.count()).await, 0);
}

async fn who_is_not_there_says_nothing(world: World) {
    let bus = world.bus("a").await;
    let _answering = squares(&bus).answer(square).unwrap();
    let error = squares(&bus)
        .ask::<u64>("nobody", &Square { of: 1 }, SHORT)
        .await
        .unwrap_err();
    let AskError::NoAnswer { node, timeout } = &error else {
        panic!("{error}")
    };
    assert_eq!((node.as_str(), *timeout), ("nobody", SHORT));
}

async fn why_there_is_no_answer_is_told(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let refuse = |question: Event<Square>| async move {
        Err::<u64, _>(format!("{} is odd", question.data.of))
    };
    let _answering = squares.answer(refuse).unwrap();
    let error = squares
        .ask::<u64>("a", &Square { of: 7 }, DEADLINE)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "`a` cannot answer: 7 is odd");
    let again = squares.answer(square).unwrap_err();
    assert!(again.to_string().contains(SQUARE), "{again}");
    // A question that is none, of the same type.
    let broken = bus.with_type::<String>(SQUARE);
    let error = broken
        .ask::<u64>("a", &"x".to_string(), DEADLINE)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

async fn a_handler_that_panics_is_an_answer(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let mut faults = bus.faults();
    let handler = |question: Event<Square>| async move {
        assert!(question.data.of < 3, "too large");
        square(question).await
    };
    let _answering = squares.answer(handler).unwrap();
    let error = squares
        .ask::<u64>("a", &Square { of: 3 }, DEADLINE)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::Failed { .. }), "{error}");
    let fault = within("fault", faults.next()).await.unwrap();
    assert_eq!(
        fault.to_string(),
        "the handler of a question panicked: too large"
    );
    let answer: u64 = squares.ask("a", &Square { of: 2 }, DEADLINE).await.unwrap();
    assert_eq!(answer, 4);
}

async fn a_question_overtakes_events_that_wait(world: World) {
    let bus = world.bus("a").await;
    let mut stuck = bus.subscribe_with(1, Overflow::Wait);
    let _answering = squares(&bus).answer(square).unwrap();
    for number in 0..10 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    let answer: u64 = squares(&bus)
        .ask("a", &Square { of: 5 }, DEADLINE)
        .await
        .unwrap();
    assert_eq!(answer, 25);
    take(&mut stuck, 10).await;
}

async fn questions_are_no_events(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let _answering = squares.answer(|question: Event<Square>| async move {
        assert!(question.is_own() && question.source == "a");
        square(question).await
    });
    let mut events = squares.subscribe();
    squares
        .ask::<u64>("a", &Square { of: 1 }, DEADLINE)
        .await
        .unwrap();
    squares.publish(&Square { of: 2 }).await.unwrap();
    let event = within("event", events.next()).await.unwrap();
    assert_eq!(event.data, Square { of: 2 });
}

async fn a_handler_answers_until_it_is_dropped(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let answering = squares.answer(square).unwrap();
    squares
        .ask::<u64>("a", &Square { of: 1 }, DEADLINE)
        .await
        .unwrap();
    drop(answering);
    let error = squares
        .ask::<u64>("a", &Square { of: 1 }, DEADLINE)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::NotAnswering { .. }), "{error}");
    let _again = squares.answer(square).unwrap();
    squares
        .ask::<u64>("a", &Square { of: 1 }, DEADLINE)
        .await
        .unwrap();
}

async fn an_answer_of_another_type_is_told(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let _answering = squares.answer(square).unwrap();
    let error = squares
        .ask::<String>("a", &Square { of: 1 }, DEADLINE)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::Undecodable { .. }), "{error}");
}

async fn a_drain_waits_for_answers(world: World) {
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let (asked, allowed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let is_answered = Arc::new(AtomicBool::new(false));
    let gates = (
        Arc::clone(&asked),
        Arc::clone(&allowed),
        Arc::clone(&is_answered),
    );
    let _answering = squares.answer(move |question: Event<Square>| {
        let (asked, allowed, is_answered) = gates.clone();
        async move {
            if question.data.of == 6 {
                asked.notify_one();
                allowed.notified().await;
                is_answered.store(true, Relaxed);
            }
            square(question).await
        }
    });
    let _asked = squares
        .ask_all::<u64>(&Square { of: 6 }, DEADLINE)
        .await
        .unwrap();
    within("question", asked.notified()).await;
    let (drained, ()) = tokio::join!(within("drain", bus.drain()), async {
        // Others are refused as soon as it waits.
        within("refusal", async {
            while squares
                .ask::<u64>("a", &Square { of: 1 }, DEADLINE)
                .await
                .is_ok()
            {}
        })
        .await;
        assert!(!is_answered.load(Relaxed));
        allowed.notify_one();
    });
    drained.unwrap();
    assert!(is_answered.load(Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_answers_and_one_is_asked_alone() {
    let world = World::new(TransportKind::Nats).await;
    let names = ["a", "b", "c"];
    let mut nodes = Vec::new();
    for name in names {
        let bus = world.bus(name).await;
        let squares = squares(&bus);
        let answering = squares.answer(move |question: Event<Square>| async move {
            assert!(question.source == "a" && question.is_own() == (name == "a"));
            Ok::<_, Infallible>(format!("{} from {name}", question.data.of))
        });
        nodes.push((bus, answering.unwrap()));
    }
    let squares = squares(&nodes[0].0);
    // Then it knows the others, too.
    within("ready", nodes[0].0.ready()).await;
    let answers = squares
        .ask_all::<String>(&Square { of: 4 }, 2 * DEADLINE)
        .await
        .unwrap();
    // It ends by itself: all nodes are known. If it waited until time is up, this would be too late.
    let mut answers: Vec<_> = within("answers", answers.collect()).await;
    assert_eq!(answers.len(), 3);
    answers.sort_by_key(|answer| answer.as_ref().unwrap().source.clone());
    for (answer, name) in answers.iter().zip(names) {
        let answer = answer.as_ref().unwrap();
        assert_eq!(answer.data, format!("4 from {name}"));
    }
    let answer: String = squares.ask("c", &Square { of: 5 }, DEADLINE).await.unwrap();
    assert_eq!(answer, "5 from c");
    // An answer that comes too late disturbs nobody.
    let answers = squares
        .ask_all::<String>(&Square { of: 4 }, DEADLINE)
        .await
        .unwrap();
    drop(answers);
    let answer: String = squares.ask("b", &Square { of: 6 }, DEADLINE).await.unwrap();
    assert_eq!(answer, "6 from b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_ask_and_answer() {
    let world = World::new(TransportKind::Nats).await;
    let bus = world.bus("a").await;
    let squares = squares(&bus);
    let answering = squares.answer(square).unwrap();
    let subject = format!("{}.ask", world.subject());
    let client = within("connect", async_nats::connect(world.address()))
        .await
        .unwrap();
    let question = format!(
        r#"{{"specversion":"1.0","id":"1","source":"curl","type":"{SQUARE}","data":{{"of":12}}}}"#
    );
    let answer = within("answer", client.request(subject.clone(), question.into()))
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(
        (&answer["answer"], &answer["data"], &answer["source"]),
        (&"ok".into(), &144.into(), &"a".into())
    );
    // Plain JSON is a question of the type of the settings.
    let _notes =
        bus.answer(
            |question: Event<Note>| async move { Ok::<_, Infallible>(question.data.number + 1) },
        );
    let plain = r#"{"publisher":"curl","number":41}"#;
    let answer = within("answer", client.request(subject.clone(), plain.into()))
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["data"], 42);
    // The other way round. The server knows the subscription when it has passed on what came after it.
    let mut questions = within("subscribe", client.subscribe(subject.clone()))
        .await
        .unwrap();
    within("answer", client.request(subject, plain.into()))
        .await
        .unwrap();
    within("own question", questions.next()).await.unwrap();
    drop(answering);
    let of = Square { of: 3 };
    let asking = squares.ask_all::<u64>(&of, DEADLINE);
    // Nobody knows that the program is there.
    let mut answers = asking.await.unwrap().until_timeout();
    let question = within("question", questions.next()).await.unwrap();
    let text = String::from_utf8(question.payload.to_vec()).unwrap();
    assert!(text.contains(r#""data":{"of":3}"#), "{text}");
    within("reply", client.publish(question.reply.unwrap(), "9".into()))
        .await
        .unwrap();
    let answer = within("answer", answers.next()).await.unwrap().unwrap();
    assert_eq!(answer.data, 9);
}

async fn a_handler_without_an_end_costs_no_event_its_confirmation(world: World) {
    let mut settings = world.settings("a");
    settings.limits.drain_timeout = Duration::from_secs(8);
    let bus = crate::world::start(settings).await;
    let squares = squares(&bus);
    let begun = Arc::new(Notify::new());
    let _answering = squares
        .answer({
            let begun = Arc::clone(&begun);
            move |_: Event<Square>| {
                let begun = Arc::clone(&begun);
                async move {
                    begun.notify_one();
                    std::future::pending::<Result<u64, Infallible>>().await
                }
            }
        })
        .unwrap();
    let mut events = bus.subscribe();
    let asking =
        tokio::spawn(async move { squares.ask::<u64>("a", &Square { of: 1 }, DEADLINE).await });
    within("a question", begun.notified()).await;
    bus.publish(&note("a", 1)).await.unwrap();
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(take(&mut events, 1).await.len(), 1);
    let answer = within("answer", asking).await.expect("no panic");
    assert!(answer.is_err(), "{answer:?}");
}
