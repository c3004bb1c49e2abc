//! `natterjack bus`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, NATTERJACK, Running, free_port, run, wait_until};

/// Of the buses of these tests.
const SUBJECT: &str = "test.bus";

/// A settings file, which lives as long as this.
struct Config {
    _folder: TempDir,
    path: PathBuf,
}

impl Config {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus.yaml");
        std::fs::write(&path, text).expect("a file");
        Self {
            _folder: folder,
            path,
        }
    }

    fn local() -> Self {
        Self::new("eventBus: {type: local, nats: {client: {name: node-a}}}")
    }

    fn embedded(port: u16) -> Self {
        let (http, cluster) = (free_port(), free_port());
        Self::new(&format!(
            "eventBus: {{type: nats, nats: {{client: {{name: node-a, subject: {SUBJECT}}}, \
             server: {{enable: true, client: {{host: 127.0.0.1, port: {port}}}, http: {{port: {http}}}, \
             cluster: {{port: {cluster}}}}}}}}}"
        ))
    }

    fn client_of(url: &str, name: &str) -> Self {
        Self::new(&format!(
            "eventBus: {{type: nats, nats: {{client: {{name: {name}, subject: {SUBJECT}, endpoint: '{url}'}}}}}}"
        ))
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let path = self.path.to_str().expect("a temporary path is text");
        [&["bus", "--config", path], more].concat()
    }

    fn run(&self, input: impl Into<Vec<u8>>) -> Ended {
        run(NATTERJACK, &self.arguments(&["--exit-on-eof"]), input)
    }

    fn start(&self) -> Running {
        Running::start(NATTERJACK, &self.arguments(&[]))
    }
}

/// The data of each event written to standard output.
#[track_caller]
fn data(ended: &Ended) -> Vec<Value> {
    let parse = |line| serde_json::from_str::<Value>(line).expect("each line is JSON");
    ended
        .stdout
        .lines()
        .map(|line| parse(line)["data"].clone())
        .collect()
}

/// Over every transport: in this process, over an embedded server, over somebody else's.
fn everywhere(test: impl Fn(&Config)) {
    test(&Config::local());
    test(&Config::embedded(free_port()));
    let daemon = Daemon::start(&[]);
    test(&Config::client_of(&daemon.url, "node-a"));
}

#[test]
fn each_line_becomes_an_event_and_each_event_a_line() {
    everywhere(|config| {
        let ended = config.run("{\"b\": 1, \"a\": [1.50, \"x y\"]}\n2\n");
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{ended:?}"
        );
        let lines: Vec<_> = ended.stdout.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].ends_with(r#","data":{"b":1,"a":[1.50,"x y"]}}"#),
            "{}",
            lines[0]
        );
        let event: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["source"], "node-a");
        assert_eq!(event["type"], "natterjack.event");
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["id"].as_str().unwrap().len(), 36);
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
    });
}

#[test]
fn events_have_a_key_and_are_chosen_by_it() {
    let daemon = Daemon::start(&[]);
    let listener = Config::client_of(&daemon.url, "node-a");
    let arguments = listener.arguments(&["--only-key", "x", "--only-key", "y"]);
    let mut bus = Running::start(NATTERJACK, &arguments);
    wait_until("it is ready", || {
        run(NATTERJACK, &listener.arguments(&["--status"]), "").code == Some(0)
    });
    // Own events have no key, so many of them go by, and none waits for being printed.
    let own: String = (0..3000).map(|number| format!("{number}\n")).collect();
    bus.send_line(own.trim_end());
    bus.close_input();
    let config = Config::client_of(&daemon.url, "node-b");
    for (key, line) in [("x", "1"), ("z", "2"), ("y", "3")] {
        let ended = run(
            NATTERJACK,
            &config.arguments(&["--exit-on-eof", "--key", key]),
            line,
        );
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let event: Value = ended
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .find(|event: &Value| event["source"] == "node-b")
            .expect("its own event");
        assert_eq!(event["routingkey"], key);
    }
    bus.stdout_line("\"data\":3}");
    bus.signal("TERM");
    let ended = bus.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(data(&ended), [1, 3]);
}

#[test]
fn bad_lines_are_named_and_nothing_else_is_lost() {
    everywhere(|config| {
        let mut input = b"1\nnot json\n\n{\"a\":\n\"\xff\"\n".to_vec();
        input.extend_from_slice(format!("\"{}\"\n", "x".repeat(1 << 20)).as_bytes());
        input.extend_from_slice(format!("\"{}\"\n", "x".repeat((1 << 20) - 2)).as_bytes());
        input.extend_from_slice(b"2");
        let ended = config.run(input);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(data(&ended), [1, 2]);
        let complaints: Vec<_> = ended.stderr.lines().collect();
        let expected = [
            "line 2: not JSON: expected ident at column 2; skipped",
            "line 3: empty, not a JSON value; skipped",
            "line 4: not JSON: EOF while parsing a value at column 5; skipped",
            "line 5: not UTF-8 at byte 2; skipped",
            "line 6: longer than the largest event (max_payload), 1048576 bytes; skipped",
            "line 7: the event is ",
        ];
        assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(
                complaint.starts_with(&format!("natterjack: {expected}")),
                "{complaint}"
            );
        }
        assert!(complaints[5].ends_with("the limit (max_payload) is 1048576; skipped"));
    });
}

#[test]
fn a_long_input_arrives_complete_and_in_order() {
    everywhere(|config| {
        let input: String = (0..5000).map(|number| format!("{number}\n")).collect();
        let ended = config.run(input);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(
            data(&ended)
                .iter()
                .map(|data| data.as_u64().unwrap())
                .eq(0..5000)
        );
    });
}

#[test]
fn no_input_is_no_problem() {
    everywhere(|config| {
        let ended = config.run("");
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(0), "", "")
        );
    });
}

#[test]
fn a_signal_ends_it_in_good_order() {
    for signal in ["INT", "TERM"] {
        everywhere(|config| {
            let mut bus = config.start();
            bus.send_line("{\"n\":1}");
            bus.stdout_line("{\"n\":1}");
            bus.signal(signal);
            let ended = bus.end();
            assert_eq!(
                (ended.code, ended.stderr.as_str()),
                (Some(0), ""),
                "{signal}"
            );
        });
    }
}

#[test]
fn the_end_of_input_alone_does_not_end_it() {
    let daemon = Daemon::start(&[]);
    let config = Config::client_of(&daemon.url, "node-a");
    let mut bus = config.start();
    bus.send_line("1");
    bus.close_input();
    bus.stdout_line("\"data\":1}");
    let other = Config::client_of(&daemon.url, "node-b").run("2\n");
    assert_eq!(other.code, Some(0), "{other:?}");
    let line = bus.stdout_line("\"data\":2}");
    assert!(line.contains("\"source\":\"node-b\""), "{line}");
    bus.signal("TERM");
    assert_eq!(bus.end().code, Some(0));
}

#[test]
fn other_programs_messages_come_through_and_what_is_no_json_is_reported() {
    let daemon = Daemon::start(&[]);
    let config = Config::client_of(&daemon.url, "node-a");
    let mut bus = config.start();
    bus.send_line("0");
    bus.stdout_line("\"data\":0}");
    for payload in ["no json", "{\n  \"pretty\": [1,\n 2]\n}"] {
        let ended = run(
            NATTERJACK,
            &["pub", SUBJECT, payload, "-s", &daemon.url],
            "",
        );
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let line = bus.stdout_line("pretty");
    assert!(line.ends_with(r#""data":{"pretty":[1,2]}}"#), "{line}");
    bus.stderr_line("a message from `test.bus`");
    bus.signal("INT");
    assert_eq!(bus.end().code, Some(0));
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let config = Config::local();
    let arguments = config.arguments(&["--exit-on-eof"]);
    let script = r#"seq 1 20000 | "$@" | head -n 1; echo "code ${PIPESTATUS[1]}""#;
    let all = [&["-c", script, "bash", NATTERJACK], &arguments[..]].concat();
    let ended = run("bash", &all, "");
    assert!(ended.stdout.ends_with("\"data\":1}\ncode 0\n"), "{ended:?}");
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_server_may_come_later() {
    let port = free_port();
    let config = Config::client_of(&format!("nats://127.0.0.1:{port}"), "node-a");
    let mut bus = config.start();
    bus.send_line("1");
    bus.stderr_line("not connected to nats://127.0.0.1:");
    let server = Running::start(
        crate::process::NATTERJACKD,
        &["-a", "127.0.0.1", "-p", &port.to_string()],
    );
    bus.stdout_line("\"data\":1}");
    drop(server);
    bus.stderr_line("disconnected from nats://127.0.0.1:");
    bus.signal("INT");
    assert_eq!(bus.end().code, Some(0));
}

/// A server that breaks its first connection at the first event, which is then gone, and serves the next as it should.
fn forgetful_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            // A connection that breaks, on whichever side, is over.
            let _ = stream.and_then(|stream| serve(stream, number > 0));
        }
    });
    url
}

/// Speaks as much of the protocol as one bus needs, which publishes to itself alone.
fn serve(stream: TcpStream, takes_events: bool) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let info = r#"{"server_id":"x","server_name":"x","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576}"#;
    write!(output, "INFO {info}\r\n")?;
    let mut subscriptions: Vec<(String, String)> = Vec::new();
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["PING"] => output.write_all(b"PONG\r\n")?,
            ["SUB", subject, sid] => subscriptions.push((subject.into(), sid.into())),
            [operation @ ("PUB" | "HPUB"), subject, ref rest @ ..] => {
                if subject == SUBJECT && !takes_events {
                    return Ok(());
                }
                let size: usize = rest[rest.len() - 1].parse().expect("a size");
                let mut payload = vec![0; size + 2];
                input.read_exact(&mut payload)?;
                // What it asks of other nodes goes to nobody.
                let is_for = |(pattern, _): &&(String, String)| match pattern.strip_suffix('>') {
                    Some(beginning) => subject.starts_with(beginning),
                    None => subject == pattern,
                };
                if let Some((_, sid)) = subscriptions.iter().find(is_for) {
                    let message = operation.replace("PUB", "MSG");
                    let rest = rest.join(" ");
                    write!(output, "{message} {subject} {sid} {rest}\r\n")?;
                    output.write_all(&payload)?;
                }
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

#[test]
fn lost_events_are_a_failure() {
    let config = Config::client_of(&forgetful_server(), "node-a");
    let mut bus = Running::start(NATTERJACK, &config.arguments(&["--exit-on-eof"]));
    bus.send_line("1");
    bus.stderr_line("disconnected from nats://127.0.0.1:");
    bus.stderr_line("1 of this node's events are lost");
    bus.send_line("2");
    bus.stdout_line("\"data\":2}");
    bus.close_input();
    let ended = bus.end();
    assert_eq!((ended.code, data(&ended)), (Some(1), vec![2.into()]));
    let said = |text: &str| ended.stderr.matches(text).count();
    assert_eq!(
        (
            said("disconnected from"),
            said("reconnected to"),
            said("IO error")
        ),
        (1, 1, 0),
        "{ended:?}"
    );
}

#[test]
fn a_signal_ends_it_while_it_starts() {
    // It accepts, but never greets.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let endpoint = format!("nats://127.0.0.1:{port}");
    let embedded = Config::new(&format!(
        "eventBus: {{type: nats, nats: {{client: {{endpoint: '{endpoint}'}}, \
         server: {{enable: true, client: {{host: 127.0.0.1, port: {}}}}}}}}}",
        free_port()
    ));
    for config in [embedded, Config::client_of(&endpoint, "node-a")] {
        let bus = config.start();
        let connection = silent.accept();
        bus.signal("INT");
        let ended = bus.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.stderr.contains("still trying"), "{ended:?}");
        drop(connection);
    }
}

#[test]
fn what_it_waits_for_at_the_end_is_said_and_can_be_given_up() {
    let daemon = Daemon::start(&[]);
    let config = Config::client_of(&daemon.url, "node-a");
    let mut bus = Running::start(NATTERJACK, &config.arguments(&["--exit-on-eof"]));
    bus.send_line("1");
    bus.stdout_line("\"data\":1}");
    drop(daemon);
    bus.stderr_line("disconnected from nats://127.0.0.1:");
    bus.send_line("2");
    bus.close_input();
    bus.stderr_line("waiting up to 20s for 1 events that the server has not confirmed");
    bus.signal("INT");
    let ended = bus.end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .ends_with("interrupted before everything was delivered\n"),
        "{ended:?}"
    );
    let said = "not delivered, as far as the server has confirmed; their ids: ";
    let named = ended.stderr.split_once(said).expect("which it is").1;
    let id = named.lines().next().unwrap_or_default();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{ended:?}");
}

#[test]
fn a_login_that_is_missing_is_named() {
    let daemon = Daemon::start(&["--auth", "t"]);
    let config = Config::client_of(&daemon.url, "node-a");
    let mut bus = config.start();
    let line = bus.stderr_line("not connected to");
    assert!(
        line.contains("(authorization violation)") && line.contains("wants a login"),
        "{line}"
    );
    bus.signal("INT");
    let ended = bus.end();
    assert_eq!(ended.code, Some(0));
    // It is said with the wait, and once.
    let refusals = ended
        .stderr
        .matches("the server or its client says")
        .count();
    assert_eq!(refusals, 0, "{ended:?}");
}

#[test]
fn what_is_no_server_is_said_to_be_none() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // It may be gone already.
            let _ = stream.and_then(|mut stream| stream.write_all(b"SSH-2.0-pond\r\n"));
        }
    });
    let config = Config::client_of(&url, "node-a");
    let mut bus = config.start();
    let line = bus.stderr_line("not connected to");
    assert!(
        line.contains("Something is there that is no NATS server"),
        "{line}"
    );
    bus.signal("INT");
    assert_eq!(bus.end().code, Some(0));
}

#[test]
fn nobody_can_forge_members_of_an_event() {
    let daemon = Daemon::start(&[]);
    let config = Config::client_of(&daemon.url, "node-a");
    let mut bus = config.start();
    bus.send_line("0");
    bus.stdout_line("\"data\":0}");
    let arguments = [
        "pub",
        SUBJECT,
        "1",
        "-H",
        "ce-id:i",
        "-H",
        "ce-data:evil",
        "-H",
        "ce-data_base64:x",
        "-H",
        "ce-:y",
        "-H",
        "ce-fine:z",
        "-s",
        &daemon.url,
    ];
    assert_eq!(run(NATTERJACK, &arguments, "").code, Some(0));
    let line = bus.stdout_line("\"id\":\"i\"");
    assert!(line.ends_with(r#","fine":"z","data":1}"#), "{line}");
    for forged in ["evil", "base64", "\"\""] {
        assert!(!line.contains(forged), "{line}");
    }
}

#[test]
fn every_problem_of_the_settings_is_named() {
    let config = Config::new(
        "eventBus:\n  tipe: nats\n  nats:\n    server: {enable: true, client: {port: x}}\n",
    );
    let ended = config.run("1\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    let path = config.path.display();
    assert_eq!(
        ended.stderr,
        format!(
            "natterjack: {path}:2:3: eventBus.tipe: unknown key; did you mean `type`?\n\
             natterjack: {path}:4:43: eventBus.nats.server.client.port: port must be an integer, not `x`; write a number \
             between 1 and 65535\n"
        )
    );
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ended = Config::embedded(port).run("1\n");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains(&format!(
            "eventBus.nats.server.client.port: cannot listen on 127.0.0.1:{port}: "
        )) && ended.stderr.contains("in use")
            && ended.stderr.contains("set another port"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_byte_order_mark_and_an_empty_type() {
    let config = Config::local();
    let ended = config.run("\u{feff}1\n 2 x\n");
    assert_eq!((ended.code, data(&ended)), (Some(1), vec![1.into()]));
    assert!(
        ended.stderr.contains("line 2: ") && ended.stderr.contains("at column 4;"),
        "{ended:?}"
    );
    let ended = run(NATTERJACK, &config.arguments(&["--type", ""]), "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn the_example_is_valid() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/single-node.yaml"
    );
    let loaded = natterjack_bus::Settings::from_file(path.as_ref()).unwrap();
    assert!(loaded.settings.nats.server.enable && loaded.warnings.is_empty());
}
