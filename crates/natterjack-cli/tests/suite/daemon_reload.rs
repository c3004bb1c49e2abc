//! The configuration file of `natterjackd`: checked with `-t`, used, and read anew on SIGHUP.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Ended, NATTERJACK, NATTERJACKD, Running, run, wait_for_text, wait_until};

/// A configuration file in a folder of its own, and a daemon that runs with it.
struct Configured {
    folder: tempfile::TempDir,
    daemon: Option<Running>,
}

fn file(text: &str) -> Configured {
    let configured = Configured {
        folder: tempfile::tempdir().unwrap(),
        daemon: None,
    };
    configured.write(text);
    configured
}

fn start(text: &str, flags: &[&str]) -> Configured {
    let mut configured = file(&format!("listen: \"127.0.0.1:-1\"\n{text}\n"));
    let path = configured.path("x.conf");
    let all = [&["-c", path.to_str().unwrap()], flags].concat();
    configured.daemon = Some(Running::start(NATTERJACKD, &all));
    configured
}

impl Configured {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("x.conf"), text).unwrap();
    }

    #[track_caller]
    fn says(&mut self, text: &str) -> String {
        self.daemon.as_mut().unwrap().stderr_line(text)
    }

    /// Another file, and the signal to read it.
    fn reload(&self, text: &str) {
        self.write(&format!("listen: \"127.0.0.1:-1\"\n{text}\n"));
        self.daemon.as_ref().unwrap().signal("HUP");
    }

    #[track_caller]
    fn end(&mut self) -> Ended {
        let daemon = self.daemon.take().unwrap();
        daemon.signal("TERM");
        let ended = daemon.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }
}

fn check_file(path: &Path) -> Ended {
    run(NATTERJACKD, &["-t", "-c", path.to_str().unwrap()], "")
}

#[test]
fn a_valid_file_passes() {
    let configured = file("port: 4\n");
    let path = configured.path("x.conf");
    let ended = check_file(&path);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    // The digest is that of nats-server 2.15.1 for the same file.
    assert_eq!(
        ended.stderr,
        format!(
            "natterjackd: configuration file {} is valid (sha256:c20215432530556cf1fb2c4a2eb26e78e23b9c0daf9ae2032460d5e9cb7be2c7)\n",
            path.display()
        )
    );
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_at_once() {
    let configured = file("prt: 4\nport: \"x\"\nping_interval: 60\n");
    let path = configured.path("x.conf");
    for arguments in [
        &["-t", "-c", path.to_str().unwrap()][..],
        &["-c", path.to_str().unwrap()][..],
    ] {
        let ended = run(NATTERJACKD, arguments, "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        for text in [
            "x.conf:1:1",
            "did you mean port?",
            "x.conf:2:7",
            "x.conf:3:16",
            &format!(
                "natterjackd: configuration file {} is not valid: 2 errors, 1 warning",
                path.display()
            ),
        ] {
            assert!(ended.stderr.contains(text), "no {text} in {ended:?}");
        }
        assert!(!ended.stderr.contains("Starting"), "{ended:?}");
    }
}

#[test]
fn what_nats_server_warns_about_does_not_pass_but_runs() {
    let mut configured = start("ping_interval: 60", &[]);
    let ended = check_file(&configured.path("x.conf"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("is not valid: 1 warning\n"),
        "{ended:?}"
    );
    let line = configured.says("[WRN]");
    assert!(
        line.contains("x.conf:2:") && line.contains("ping_interval"),
        "{line}"
    );
    configured.says("Server is ready");
    configured.end();
}

#[test]
fn files_that_are_named_in_it_are_checked_too() {
    let configured =
        file("tls { cert_file: \"/nonexistent.pem\", key_file: \"/nonexistent.key\" }\n");
    let ended = check_file(&configured.path("x.conf"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("/nonexistent.pem"), "{ended:?}");
}

#[test]
fn a_file_that_is_not_there() {
    let ended = run(NATTERJACKD, &["-c", "/nonexistent.conf"], "");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("/nonexistent.conf") && ended.stderr.contains("o such file"),
        "{ended:?}"
    );
    let ended = run(NATTERJACKD, &["-t"], "");
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        "natterjackd: must specify [-c, --config] option to check configuration file syntax\n"
    );
}

#[test]
fn the_log_says_which_file_is_used() {
    let mut configured = start("server_name: \"deep-thought\"", &[]);
    let line = configured.says("Using configuration file: ");
    assert!(line.contains("x.conf (sha256:"), "{line}");
    configured.says("  Name:     deep-thought");
    configured.says("Server is ready");
    configured.end();
}

#[test]
fn levels_change_on_the_fly() {
    let mut configured = start("", &[]);
    let line = configured.says("Listening for client connections on ");
    let url = format!("nats://{}", line.rsplit(' ').next().unwrap());
    configured.says("Server is ready");
    let publish = || {
        let ended = run(NATTERJACK, &["pub", "s", "x", "-s", &url], "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    publish();
    configured.reload("debug: true, trace: true");
    configured.says("Reloaded: debug = true");
    let line = configured.says("Reloaded server configuration ");
    assert!(line.contains("(sha256:"), "{line}");
    publish();
    configured.says("[TRC]");
    configured.reload("");
    configured.says("Reloaded: debug = false");
    configured.says("Reloaded server configuration ");
    publish();
    let rest = configured.end().stderr;
    let rest = &rest[rest.rfind("Reloaded server").unwrap()..];
    assert!(!rest.contains("[TRC]") && !rest.contains("[DBG]"), "{rest}");
}

#[test]
fn the_log_moves_on_the_fly() {
    let mut configured = start("", &[]);
    configured.says("Server is ready");
    let path = configured.path("x.log");
    let log_file = format!("log_file: {:?}", path);
    configured.reload(&log_file);
    configured.says("Trapped \"hangup\" signal");
    wait_for_text(&path, "Reloaded server configuration");
    // A file that cannot be opened is refused, and everything stays.
    configured.reload("log_file: \"/nonexistent/x.log\", debug: true");
    let text = wait_for_text(&path, "Failed to reload");
    assert!(text.contains("/nonexistent/x.log"), "{text}");
    configured.reload(&format!("{log_file}, logtime: false, log_format: json"));
    wait_for_text(&path, "{\"level\":\"info\",\"pid\":");
    configured.end();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"message\":\"Server Exiting..\""), "{text}");
    assert!(!text.contains("[DBG]"), "{text}");
}

#[test]
fn what_needs_a_new_process_is_refused_as_a_whole() {
    let mut configured = start("server_name: arthur", &[]);
    configured.says("Server is ready");
    configured.reload("server_name: ford, debug: true");
    let line = configured.says("Failed to reload server configuration: ");
    assert!(
        line.contains("config reload not supported for server_name: old="),
        "{line}"
    );
    let ended = configured.end();
    assert!(!ended.stderr.contains("[DBG]"), "{ended:?}");
}

/// Somebody may write to a pipe at the start and be gone now. The server goes on, and obeys signals.
#[test]
fn a_pipe_is_not_waited_for() {
    let mut configured = start("", &[]);
    configured.says("Server is ready");
    let path = configured.path("x.conf");
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    configured.daemon.as_ref().unwrap().signal("HUP");
    let line = configured.says("Failed to reload server configuration: ");
    assert!(line.contains("x.conf is not a file but a pipe"), "{line}");
    // The same with what a file names.
    fs::remove_file(&path).unwrap();
    let pipe = configured.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    configured.reload(&format!(
        "tls {{ cert_file: {pipe:?}, key_file: {pipe:?} }}"
    ));
    let line = configured.says("it is a pipe or a device, and has to be a file");
    assert!(line.contains("cert_file"), "{line}");
    configured.end();
}

#[test]
fn a_file_with_mistakes_changes_nothing() {
    let mut configured = start("", &[]);
    configured.says("Server is ready");
    configured.reload("debug: true\nmax_pyload: 5\nping_max: \"x\"");
    let line = configured.says("x.conf:3:1");
    assert!(
        line.contains("[ERR]") && line.contains("max_payload"),
        "{line}"
    );
    configured.says("x.conf:4:");
    configured
        .says("Failed to reload server configuration: the configuration is not valid: 2 errors");
    let ended = configured.end();
    assert!(!ended.stderr.contains("[DBG]"), "{ended:?}");
}

#[test]
fn flags_go_before_the_file_also_on_a_reload() {
    let mut configured = start("debug: true", &["-D=false", "-T=false"]);
    configured.says("Server is ready");
    configured.reload("debug: true, max_connections: 7, logtime: true");
    configured.says("Reloaded: max_connections = 7");
    configured.says("Reloaded server configuration");
    let ended = configured.end();
    assert!(!ended.stderr.contains("[DBG]"), "{ended:?}");
    assert!(
        ended.stderr.lines().all(|line| line.contains("] [")),
        "{ended:?}"
    );
}

#[test]
fn the_process_id_file_moves_on_the_fly() {
    let mut configured = start("", &[]);
    configured.says("Server is ready");
    let paths = ["one", "two"].map(|name| configured.path(name));
    for path in &paths {
        configured.reload(&format!("pid_file: {path:?}"));
        configured.says("Reloaded: pid_file = ");
        configured.says("Reloaded server configuration");
        let pid = configured.daemon.as_ref().unwrap().pid();
        assert_eq!(fs::read_to_string(path).unwrap(), pid.to_string());
    }
    assert!(!paths[0].exists());
    configured.end();
    wait_until("end of the file", || !paths[1].exists());
}
