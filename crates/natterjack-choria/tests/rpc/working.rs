//! Agents of Rust programs: what they get, what comes back, and how a node ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use natterjack_choria::client::Event;
use natterjack_choria::node::{Agent, Call, Description};
use natterjack_choria::rpc::{ActionReply, Status, Values};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use crate::support::{RIP, Running, World, call, listen, within};

/// Counts what it has done, waits until it may go on, says a lot.
#[derive(Clone)]
struct Worker {
    done: Arc<AtomicU64>,
    begun: Arc<Notify>,
    may_end: Arc<Semaphore>,
}

impl Worker {
    fn new() -> Self {
        Self {
            done: Arc::default(),
            begun: Arc::default(),
            may_end: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Agent for Worker {
    fn description(&self) -> Description {
        Description::new("worker", &["count", "wait", "shout", "who", "panic"])
    }

    async fn handle(&self, call: Call) -> ActionReply {
        let mut data = Values::new();
        match call.request.action.as_str() {
            "wait" => {
                self.begun.notify_one();
                let _ = self.may_end.acquire().await;
            }
            "shout" => {
                let Ok(bytes) = call.integer("bytes") else {
                    return ActionReply::failed(Status::InvalidData, "how loud?");
                };
                let bytes = usize::try_from(bytes).unwrap_or_default();
                data.insert("text".into(), "a".repeat(bytes).into());
            }
            "who" => {
                data.insert("caller".into(), call.caller.as_str().into());
            }
            "panic" => panic!("as asked"),
            _ => {}
        }
        let done = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        data.insert("done".into(), done.into());
        ActionReply::ok(data)
    }
}

async fn world() -> (World, Running, Worker) {
    let world = World::new().await;
    let worker = Worker::new();
    let agent = worker.clone();
    let node = world
        .node_with("n1.example.net", "", |builder| {
            builder.with_agent(agent).unwrap()
        })
        .await;
    (world, node, worker)
}

fn on_node(action: &str, arguments: serde_json::Value) -> natterjack_choria::client::Call {
    let mut call = call("worker", action, arguments);
    call.filter.identity = vec!["n1.example.net".into()];
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_know_who_asks_and_may_fail() {
    let (world, _node, _) = world().await;
    let mut client = world.client(RIP).await;
    let told = listen(client.call(on_node("who", json!({})))).await;
    let reply = &told.answers["n1.example.net"];
    assert_eq!(reply.data["caller"], "choria=rip.mcollective");
    let told = listen(client.call(on_node("panic", json!({})))).await;
    assert_eq!(told.answers["n1.example.net"].status, Status::UnknownError);
    let told = listen(client.call(on_node("count", json!({})))).await;
    assert_eq!(told.answers["n1.example.net"].data["done"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_answers_is_done_when_all_is_sent() {
    let (world, node, worker) = world().await;
    let mut client = world.client(RIP).await;
    let mut quiet = on_node("count", json!({}));
    quiet.wants_answers = false;
    let mut run = client.call(quiet);
    let event = within("an event", run.next()).await.unwrap().unwrap();
    assert!(matches!(event, Event::Sent { .. }));
    assert!(within("the end", run.next()).await.is_none());
    node.counts("the request", |counts| counts.passed == 1)
        .await;
    node.end().await;
    assert_eq!(worker.done.load(Ordering::SeqCst), 1);
}

/// Servers take a mebibyte.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_told() {
    let (world, _node, _) = world().await;
    let mut client = world.client(RIP).await;
    let told = listen(client.call(on_node("shout", json!({"bytes": 500_000})))).await;
    let text = &told.answers["n1.example.net"].data["text"];
    assert_eq!(text.as_str().unwrap().len(), 500_000);
    let told = listen(client.call(on_node("shout", json!({"bytes": 1_000_000})))).await;
    let reply = &told.answers["n1.example.net"];
    assert_eq!(reply.status, Status::UnknownError);
    assert!(reply.message.contains("too large"), "{}", reply.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_after_what_it_has_begun() {
    let (world, mut node, worker) = world().await;
    let mut client = world.client(RIP).await;
    let asking = tokio::spawn(async move { listen(client.call(on_node("wait", json!({})))).await });
    within("the work", worker.begun.notified()).await;
    node.ask_to_end();
    // No more requests are taken; who asks now waits in vain, so nobody does.
    assert!(!node.has_ended());
    worker.may_end.add_permits(1);
    let told = within("the answer", asking).await.unwrap();
    assert_eq!(told.answers["n1.example.net"].data["done"], 1);
    node.end().await;
}
