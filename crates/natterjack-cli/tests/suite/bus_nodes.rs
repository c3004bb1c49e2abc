//! `natterjack bus` on several nodes: the examples, how nodes are, and what a service manager is told.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{DEADLINE, NATTERJACK, Running, free_port, run, wait_until};

/// Runs an example's script and checks what it shows, and that nothing is left of it.
fn example(name: &str, nodes: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
        .join("run.sh");
    let mut command = Command::new(script);
    command.env("NATTERJACK", NATTERJACK);
    let ended = Running::spawn(command).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "{ended:?}");
    for node in nodes {
        let mut heard: Vec<_> = ended
            .stdout
            .lines()
            .skip_while(|line| *line != format!("{node} has heard:"))
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .map(str::trim)
            .collect();
        heard.sort_unstable();
        let mut expected: Vec<_> = nodes
            .iter()
            .map(|node| format!("hello from {node}"))
            .collect();
        expected.sort_unstable();
        assert_eq!(heard, expected, "{node}");
        let started = ended
            .stdout
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&format!("{node}, process ")));
        let pid = started.expect("it says which process");
        assert!(!Path::new("/proc").join(pid).exists(), "{node} is left");
    }
}

#[test]
fn the_example_of_three_nodes() {
    example("three-nodes", &["node-1", "node-2", "node-3"]);
}

#[test]
fn the_example_of_nine_nodes() {
    example(
        "nine-nodes",
        &[
            "client-1", "client-2", "client-3", "client-4", "client-5", "client-6", "server-1",
            "server-2", "server-3",
        ],
    );
}

/// A node that embeds a server, on ports of its own.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new(required_hosts: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [client, http, cluster] = [(); 3].map(|()| free_port());
        let text = format!(
            "eventBus:\n  type: nats\n  health: {{requiredHosts: {required_hosts}}}\n  nats:\n    \
             client: {{name: node-a, endpoint: 'inproc:', subject: test.bus}}\n    server:\n      enable: true\n      \
             client: {{host: 127.0.0.1, port: {client}}}\n      http: {{host: 127.0.0.1, port: {http}}}\n      \
             cluster: {{host: 127.0.0.1, port: {cluster}}}\n"
        );
        std::fs::write(folder.path().join("bus.yaml"), text).expect("a file");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(NATTERJACK);
        command
            .args(["bus", "--config"])
            .arg(self.path("bus.yaml"))
            .args(more);
        command
    }

    fn status(&self, more: &[&str]) -> crate::process::Ended {
        Running::spawn(self.command(&[&["--status"], more].concat())).end()
    }
}

#[test]
fn the_status_of_a_node_is_printed_and_is_the_exit_code() {
    let node = Node::new(1);
    let ended = node.status(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("the server of this node"),
        "{ended:?}"
    );

    let mut command = node.command(&[]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::spawn(command);
    running.send_line("1");
    running.stdout_line("\"data\":1}");
    wait_until("it is ready", || node.status(&[]).code == Some(0));
    let table = node.status(&[]).stdout;
    assert!(table.starts_with("NODE "), "{table}");
    assert!(table.contains("\nnode-a *"), "{table}");
    let line = node.status(&["--format", "json"]).stdout;
    let status: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!(status["health"]["node"], "node-a");
    assert_eq!(status["stats"]["published_events"], 1);
    let page = node.status(&["--format", "prometheus"]).stdout;
    assert!(
        page.contains("natterjack_bus_published_events_total{node=\"node-a\"} 1\n"),
        "{page}"
    );
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let node = Node::new(1);
    let mut command = node.command(&[]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::spawn(command);
    running.send_line("1");
    running.stdout_line("\"data\":1}");
    // As timeout(1) does: to the program, and to its group.
    running.signal("TERM");
    running.signal("INT");
    let ended = running.end();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
}

#[test]
fn too_few_hosts_are_no_success() {
    let node = Node::new(2);
    let mut command = node.command(&[]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::spawn(command);
    running.send_line("1");
    running.stdout_line("\"data\":1}");
    let ended = node.status(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains(" 1/2 "), "{ended:?}");
}

#[test]
fn a_bus_inside_its_program_has_no_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.yaml");
    std::fs::write(&path, "eventBus: {type: local}").expect("a file");
    let path = path.to_str().expect("a temporary path is text");
    let ended = run(NATTERJACK, &["bus", "--config", path, "--status"], "");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("`local`"), "{ended:?}");
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_drains() {
    let node = Node::new(1);
    let path = node.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let hears = || {
        let mut buffer = [0; 1_000];
        let length = manager.recv(&mut buffer).expect("it is told");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = node.command(&[]);
    command
        .env("NOTIFY_SOCKET", &path)
        .stdin(std::process::Stdio::piped());
    let running = Running::spawn(command);
    assert_eq!(hears(), "READY=1\nSTATUS=Ready, 1 node answers\n");
    running.signal("TERM");
    let stopping = hears();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert!(stopping.contains("Draining"), "{stopping}");
    assert_eq!(running.end().code, Some(0));
}
