//! `natterjack bench`: that it measures something, not what.

use serde_json::Value;

use crate::process::{Daemon, NATTERJACK, Running, run};

fn bench(arguments: &[&str]) -> (Option<i32>, String) {
    let daemon = Daemon::start(&[]);
    let ended = run(
        NATTERJACK,
        &[&["bench", "-s", &daemon.url], arguments].concat(),
        "",
    );
    assert_eq!(ended.stderr, "");
    (ended.code, ended.stdout)
}

fn json(arguments: &[&str]) -> Value {
    let (code, stdout) = bench(&[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{stdout}");
    serde_json::from_str(&stdout).expect("one JSON object")
}

#[test]
fn every_subscriber_receives_every_message() {
    let report = json(&[
        "--publishers",
        "2",
        "--subscribers",
        "3",
        "--msgs",
        "1001",
        "--size",
        "64",
    ]);
    assert_eq!(report["published"]["messages"], 1001);
    assert_eq!(report["received"]["messages"], 3003);
    assert_eq!(report["lost_messages"], 0);
    let latency = &report["latency"];
    let [p50, p99, max] =
        ["p50_us", "p99_us", "max_us"].map(|name| latency[name].as_f64().unwrap());
    assert!(p50 > 0.0 && p50 <= p99 && p99 <= max * 1.01, "{latency}");
}

#[test]
fn a_queue_group_shares_the_messages() {
    let report = json(&[
        "--subscribers",
        "3",
        "--queue",
        "q",
        "--msgs",
        "1000",
        "--size",
        "4",
    ]);
    assert_eq!(report["received"]["messages"], 1000);
    assert!(
        report.get("latency").is_none(),
        "4 bytes have no room for the time"
    );
}

#[test]
fn requests_and_publishing_alone() {
    let report = json(&["--request-reply", "--publishers", "2", "--msgs", "200"]);
    assert_eq!(
        (&report["kind"], &report["published"]["messages"]),
        (&"request-reply".into(), &200.into())
    );
    assert!(report["latency"]["p50_us"].as_f64().unwrap() > 0.0);
    let report = json(&["--subscribers", "0", "--msgs", "1000"]);
    assert!(report.get("received").is_none() && report.get("latency").is_none());
}

#[test]
fn people_get_text_with_a_histogram() {
    let (code, stdout) = bench(&["--msgs", "500"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.lines().all(|line| line.chars().count() <= 80),
        "{stdout}"
    );
    assert!(
        stdout.starts_with("publish-subscribe: 1 publishers, 1 subscribers, 128 bytes"),
        "{stdout}"
    );
    assert!(
        stdout.contains("msgs/s") && stdout.contains("p99.9") && stdout.contains('█'),
        "{stdout}"
    );
}

#[test]
fn a_server_that_dies_ends_it() {
    for more in [&[][..], &["--request-reply"]] {
        let daemon = Daemon::start(&[]);
        let url = daemon.url.clone();
        let arguments = [
            "sub",
            "natterjack.bench",
            "--raw",
            "--count",
            "1",
            "-s",
            &url,
        ];
        let mut watcher = Running::start(NATTERJACK, &arguments);
        watcher.stderr_line("Subscribed");
        let endless = ["bench", "-s", &url, "--msgs", "10000000000"];
        let bench = Running::start(NATTERJACK, &[&endless, more].concat());
        // When a message has come through, it is under way.
        watcher.end();
        drop(daemon);
        let ended = bench.end();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(
            ended.stderr,
            format!("natterjack: the benchmark is void: disconnected from {url}\n")
        );
    }
}
