//! What SIGHUP means to `natterjack bus`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{NATTERJACK, Running, free_port, terminal};

/// A node with a server, whose file can be written anew.
struct Node {
    folder: tempfile::TempDir,
    ports: [u16; 3],
}

impl Node {
    fn new() -> Self {
        let node = Self {
            folder: tempfile::tempdir().expect("a folder"),
            ports: [(); 3].map(|()| free_port()),
        };
        node.write("");
        node
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("bus.yaml")
    }

    /// With more lines for the cluster.
    fn write(&self, cluster: &str) {
        let [client, http, own] = self.ports;
        let text = format!(
            "eventBus:\n  type: nats\n  nats:\n    client: {{name: node-a, endpoint: 'inproc:', subject: test.bus}}\n    \
             server:\n      enable: true\n      client: {{host: 127.0.0.1, port: {client}}}\n      \
             http: {{host: 127.0.0.1, port: {http}}}\n      cluster:\n        host: 127.0.0.1\n        port: {own}\n{cluster}"
        );
        std::fs::write(self.path(), text).expect("a file");
    }
}

fn command(path: &Path) -> Command {
    let mut command = Command::new(NATTERJACK);
    command.args(["bus", "--config"]).arg(path);
    command
}

#[test]
fn a_hangup_has_the_settings_read_again() {
    let node = Node::new();
    let mut command = command(&node.path());
    command.stdin(std::process::Stdio::piped());
    let mut bus = Running::spawn(command);
    bus.send_line("1");
    bus.stdout_line("\"data\":1}");

    bus.signal("HUP");
    bus.stderr_line("the settings were read again; nothing changes");

    // A node that nobody knows yet, and a name that only another start can give.
    let route = format!("nats://127.0.0.1:{}", free_port());
    node.write(&format!(
        "        name: another\n        routes: ['{route}']\n"
    ));
    bus.signal("HUP");
    bus.stderr_line("taken over: eventBus.nats.server.cluster.routes");
    bus.stderr_line("after another start only: eventBus.nats.server.cluster.name");

    node.write("        prot: 1\n        advertise: a\n");
    bus.signal("HUP");
    bus.stderr_line(
        "bus.yaml:12:9: eventBus.nats.server.cluster.prot: unknown key; did you mean `port`?",
    );
    bus.stderr_line("bus.yaml:13:20: eventBus.nats.server.cluster.advertise: `a` has no port");
    bus.stderr_line("the settings are not taken over; the bus goes on as it was");

    bus.send_line("2");
    bus.stdout_line("\"data\":2}");
    bus.signal("TERM");
    let ended = bus.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Whoever closes the terminal does not want what runs there to stay.
#[test]
fn a_hangup_of_the_terminal_ends_it_in_good_order() {
    let node = Node::new();
    let (mut keyboard, terminal) = terminal();
    let mut command = command(&node.path());
    command.stdin(terminal);
    let mut bus = Running::spawn(command);
    keyboard.write_all(b"1\n").expect("it is open");
    bus.stdout_line("\"data\":1}");
    drop(keyboard);
    bus.signal("HUP");
    let ended = bus.end();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
}
