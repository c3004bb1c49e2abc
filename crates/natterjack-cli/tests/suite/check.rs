//! `natterjack check`: what it says, and its exit code.

use std::fs;

use tempfile::TempDir;

use crate::process::{Ended, NATTERJACK, run};

struct File {
    _folder: TempDir,
    path: String,
}

fn file(text: &str) -> File {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let path = folder.path().join("nats.conf");
    fs::write(&path, text).expect("a file in a folder of ours");
    File {
        path: path.to_str().expect("a plain path").to_owned(),
        _folder: folder,
    }
}

fn check(file: &File, arguments: &[&str]) -> Ended {
    run(
        NATTERJACK,
        &[&["check", &file.path], arguments].concat(),
        "",
    )
}

#[test]
fn a_right_file_is_valid() {
    let ended = check(&file("port: 4333"), &[]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout, "");
    assert!(
        ended.stderr.contains("nats.conf is valid (sha256:"),
        "{ended:?}"
    );
}

#[test]
fn all_mistakes_are_told_with_their_places() {
    let file = file("prot: 4222\nmax_payload: \"8MB\"\nauthorization { token: s3cret, foo: 1 }\n");
    let ended = check(&file, &["--explain"]);
    assert_eq!(ended.code, Some(1));
    for expected in [
        "nats.conf:1:1",
        "did you mean port?",
        "nats.conf:2:14",
        "write sizes without quotes",
        "nats.conf:3:32",
        "has 3 errors",
    ] {
        assert!(
            ended.stderr.contains(expected),
            "{expected}: {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "what is wrong is not explained");
}

#[test]
fn warnings_fail_as_under_t() {
    let ended = check(&file("ping_interval: 90"), &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("has 1 warning"), "{}", ended.stderr);
}

#[test]
fn what_is_in_force_is_shown_with_its_origins() {
    let file = file("port: 4333\nauthorization { token: s3cret }\n");
    let ended = check(&file, &["--explain", "--", "-p", "4444", "-D"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let line = |start: &str| {
        let mut lines = ended.stdout.lines();
        let line = lines.find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {}", ended.stdout))
    };
    assert!(line("port: 4444").ends_with("# flag -p"));
    assert!(line("debug: true").ends_with("# flag -D"));
    assert!(line("token: \"***\"").ends_with("nats.conf:2"));
    assert!(line("max_payload: 1MB").ends_with("# default"));
}

#[test]
fn flags_that_cannot_be_checked_are_refused() {
    let file = file("port: 4333");
    for flags in [["--", "-t"], ["--", "--prot"], ["--", "-h"]] {
        let ended = check(&file, &flags);
        assert_eq!(ended.code, Some(1), "{flags:?}");
        assert!(ended.stderr.contains("natterjack: "), "{ended:?}");
    }
    let ended = check(&file, &["--", "-p", "99999"]);
    assert!(
        ended.stderr.contains("flag -p: port must be at most 65535"),
        "{ended:?}"
    );
}
