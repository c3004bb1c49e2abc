//! Where `natterjack bus` and `natterjack check --bus` take settings from, and what they say of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Ended, NATTERJACK, Running, run};

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.yaml");
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

/// Runs with variables and without input.
fn run_with(variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(NATTERJACK);
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    Running::spawn(command).end()
}

#[test]
fn every_line_of_the_explanation_names_its_origin_and_reads_back() {
    let (folder, path) = file(
        "other: {eventBus: 1}\neventBus:\n  type: nats\n  nats:\n    client: {name: a}\n    server: {enable: true}\n",
    );
    let path = path.to_str().expect("text");
    let variables = [
        (
            "BINDPLANE_NATS_SERVER_CLUSTER_ROUTES",
            "nats://b:1,nats://c:2",
        ),
        ("BINDPLANE_NATS_SERVER_CLUSTER_HOST", "0.0.0.0"),
        ("BINDPLANE_NATS_CLIENT_SUBJECT", ""),
    ];
    let arguments = [
        "check",
        "--bus",
        path,
        "--explain",
        "--",
        "--nats-client-name",
        "d",
    ];
    let ended = run_with(&variables, &arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "the settings are valid\n");
    let origin = |start: &str| {
        let line = ended
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(start));
        let line = line.unwrap_or_else(|| panic!("{start}: {}", ended.stdout));
        line.split_once("# ")
            .expect("each line has an origin")
            .1
            .to_owned()
    };
    assert_eq!(origin("type: nats"), format!("{path}:3:9"));
    assert_eq!(origin("name: d"), "--nats-client-name");
    assert_eq!(origin("subject: bindplane-event-bus"), "default");
    assert_eq!(origin("routes:"), "BINDPLANE_NATS_SERVER_CLUSTER_ROUTES");
    assert_eq!(origin("enable: true"), format!("{path}:6:22"));

    let again = folder.path().join("again.yaml");
    std::fs::write(&again, &ended.stdout).expect("a file");
    let again = again.to_str().expect("text");
    let second = run(NATTERJACK, &["check", "--bus", again, "--explain"], "");
    let values = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| line.split(" # ").next().unwrap_or_default());
        lines.map(|line| line.trim_end().to_owned()).collect()
    };
    assert_eq!(values(&second.stdout), values(&ended.stdout));
}

#[test]
fn problems_are_told_with_their_sources_and_fail() {
    let (_folder, path) = file("eventBus: {type: nats, nats: {clinet: {}}}");
    let path = path.to_str().expect("text");
    let variables = [("BINDPLANE_NATS_SERVER_CLIENT_PORT", "70000")];
    let arguments = [
        "check",
        "--bus",
        path,
        "--explain",
        "--",
        "--nats-client-endpoint=h:1",
    ];
    let ended = run_with(&variables, &arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert_eq!(
        ended.stderr,
        format!(
            "{path}:1:31: eventBus.nats.clinet: unknown key; did you mean `client`?\n\
             BINDPLANE_NATS_SERVER_CLIENT_PORT: eventBus.nats.server.client.port: port must be between 1 and 65535, not \
             70000; choose one that is free on this host\n\
             --nats-client-endpoint: eventBus.nats.client.endpoint: `h:1` has no scheme; write it as nats://host:port\n\
             the settings have 3 errors\n"
        )
    );
    let ended = run(
        NATTERJACK,
        &["check", "--bus", path, "--", "--nats-sever-enable"],
        "",
    );
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--nats-server-enable"), "{ended:?}");
}

#[test]
fn a_bus_needs_no_file() {
    let ended = run_with(
        &[("BINDPLANE_NATS_CLIENT_NAME", "from-the-environment")],
        &["bus", "--event-bus-type", "local", "--exit-on-eof"],
    );
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    let ended = run(
        NATTERJACK,
        &["bus", "--nats-client-name", "from-a-flag", "--exit-on-eof"],
        "1\n",
    );
    assert!(
        ended.stdout.contains("\"source\":\"from-a-flag\""),
        "{ended:?}"
    );
}
