//! The whole log through `tracing`, without installing it for the process.

use std::fs;
use std::path::Path;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn to_file(path: &Path) -> Settings {
    Settings {
        time: false,
        target: Target::File {
            path: path.into(),
            bytes_max: 0,
            files_max: 0,
        },
        ..Settings::default()
    }
}

/// Runs something with the log in place, and returns the file's text without process ids.
fn logged(settings: &Settings, act: impl FnOnce(&Log)) -> String {
    let log = Log::open(settings).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(log.layer()), || {
        act(&log);
    });
    assert!(log.flush(LONG));
    match &settings.target {
        Target::File { path, .. } => text(path),
        _ => String::new(),
    }
}

fn text(path: &Path) -> String {
    let pid = format!("[{}] ", std::process::id());
    fs::read_to_string(path).unwrap().replace(&pid, "")
}

#[test]
fn levels_choose_the_lines() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |debug, trace, trace_verbose| {
        let path = folder
            .path()
            .join(format!("{debug}-{trace}-{trace_verbose}"));
        let settings = Settings {
            debug,
            trace,
            trace_verbose,
            ..to_file(&path)
        };
        logged(&settings, |_| {
            tracing::trace!("<<- [PING]");
            tracing::trace!(target: SYSTEM, "<<- [PONG]");
            tracing::debug!("client created");
            tracing::info!("ready");
            tracing::trace!(target: "async_nats::connector", "a payload");
            tracing::error!(target: "async_nats", "again and again");
            tracing::warn!(target: "hickory_resolver::hosts", "a line of the hosts file");
            tracing::debug!(target: "hickory_net", "a query");
        })
    };
    assert_eq!(lines(false, false, false), "[INF] ready\n");
    assert_eq!(lines(false, true, false), "[TRC] <<- [PING]\n[INF] ready\n");
    assert_eq!(
        lines(false, true, true),
        "[TRC] <<- [PING]\n[TRC] <<- [PONG]\n[INF] ready\n"
    );
    assert_eq!(
        lines(true, false, false),
        "[DBG] client created\n[INF] ready\n[ERR] again and again\n"
    );
}

#[test]
fn levels_change_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = to_file(&folder.path().join("log"));
    let verbose = Settings {
        debug: true,
        ..settings.clone()
    };
    let lines = logged(&settings, |log| {
        let say = |text: &str| tracing::debug!("{text}");
        say("one");
        log.reconfigure(&verbose).unwrap();
        say("two");
        log.reconfigure(&settings).unwrap();
        say("three");
    });
    assert_eq!(lines, "[DBG] two\n");
}

#[test]
fn the_target_changes_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("one"), folder.path().join("two")];
    let settings = to_file(&paths[0]);
    logged(&settings, |log| {
        tracing::info!("one");
        log.reconfigure(&to_file(&paths[1])).unwrap();
        tracing::info!("two");
        let error = log
            .reconfigure(&to_file(Path::new("/nonexistent/log")))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the log file /nonexistent/log: No such file or directory (os error 2)"
        );
        tracing::info!(port = 4222, name = "x", "three");
    });
    assert_eq!(text(&paths[0]), "[INF] one\n");
    assert_eq!(
        text(&paths[1]),
        "[INF] two\n[INF] three port=4222 name=\"x\"\n"
    );
}

#[test]
fn a_moved_file_is_left_behind_on_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("old"));
    let settings = to_file(&path);
    let lines = logged(&settings, |log| {
        tracing::info!("one");
        assert!(log.flush(LONG));
        fs::rename(&path, &old).unwrap();
        tracing::info!("two");
        assert!(log.flush(LONG));
        assert!(log.reopen().unwrap());
        tracing::info!("three");
    });
    assert_eq!(text(&old), "[INF] one\n[INF] two\n");
    assert_eq!(lines, "[INF] three\n");
}

/// Many threads log while the file is opened anew again and again, and rotated: every line is there, once.
#[test]
fn no_line_is_lost_or_doubled_by_changes() {
    const THREADS: usize = 4;
    const LINES: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let settings = Settings {
        target: Target::File {
            path,
            bytes_max: 10_000,
            files_max: 0,
        },
        ..to_file(Path::new(""))
    };
    logged(&settings, |log| {
        let running = &log.running;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for line in 0..LINES {
                        let running = running.read();
                        let content = Content::plain(&format!("thread {thread} line {line}"));
                        let line = running.layout.line(Severity::Info, &content, None);
                        running.writer.push(line.as_bytes());
                    }
                });
            }
            for _ in 0..50 {
                assert!(log.reopen().unwrap());
            }
        });
    });
    let all: String = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| text(&entry.unwrap().path()))
        .collect();
    let mut lines: Vec<&str> = all.lines().filter(|line| line.contains("thread")).collect();
    assert_eq!(lines.len(), THREADS * LINES);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), THREADS * LINES);
}

#[test]
fn json_carries_the_fields() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        format: Format::Json,
        ..to_file(&folder.path().join("log"))
    };
    let lines = logged(&settings, |_| {
        tracing::warn!(connections = 3_u64, slow = true, who = %"a\nb", "too \"many\"");
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&lines).unwrap(),
        serde_json::json!({
            "level": "warning",
            "pid": std::process::id(),
            "message": "too \"many\"",
            "fields": { "connections": 3, "slow": true, "who": "a\nb" },
        })
    );
}

/// Somebody changes the log while a line is made, whose making logs another.
#[test]
fn what_logs_while_it_is_logged_stops_nothing() {
    struct Talkative<'a>(&'a Log, Settings, std::cell::Cell<bool>);

    impl std::fmt::Debug for Talkative<'_> {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            if !self.2.replace(true) {
                self.0.reconfigure(&self.1).unwrap();
            }
            tracing::info!("inner");
            formatter.write_str("outer")
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("one"), folder.path().join("two")];
    logged(&to_file(&paths[0]), |log| {
        let other = to_file(&paths[1]);
        tracing::info!("{:?}", Talkative(log, other, std::cell::Cell::new(false)));
    });
    assert_eq!(text(&paths[0]), "");
    // `tracing` does not hand over what is logged while something is; the line itself is there once.
    assert_eq!(text(&paths[1]).matches("outer").count(), 1);
}
