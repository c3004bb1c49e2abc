//! The configuration language: the files of `configuration/`, each case read by nats-server (`-t`) and by
//! `natterjack-conf`. Both must accept or refuse it, and whoever accepts must have read the same values, which the digest
//! shows. Where we judge differently on purpose the case says so with the reason, and both judgements are checked.
//!
//! So that options do not matter, a case's file is included into a block that a variable uses, which nats-server does not
//! check further. `case` owns the notation.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use libtest_mimic::Trial;
use natterjack_conf::Severity;
use testkit::Program;
use testkit::programs;

use crate::trial;

mod case;

mod made_up;

use case::{Case, Judgement, MAIN};

/// For a verdict. It takes some hundredths of a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// For nats-server where it gives no verdict; it uses up half a gigabyte a second meanwhile.
const PATIENCE_WITHOUT_VERDICT: Duration = Duration::from_millis(300);

/// Made-up files, each with a seed of its own.
const SEEDS: u64 = 8;
const MADE_UP_FILES: usize = 50;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = cases().into_iter().map(written).collect();
    for seed in 0..SEEDS {
        let needs = [programs::nats_server().map(drop)];
        trials.push(trial(
            format!("configuration::made_up::seed_{seed}"),
            needs,
            move || made_up_files(seed),
        ));
    }
    trials
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configuration");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus is beside this test")
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        let theme = file.file_stem().expect("listed files have names");
        let of_file = Case::parse_all(&theme.to_string_lossy(), &text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        cases.extend(of_file);
    }
    cases
}

fn written(case: Case) -> Trial {
    let name = format!("configuration::{}", case.name);
    trial(name, [programs::nats_server().map(drop)], move || {
        let (reference, ours) = both(&case);
        assert_eq!(
            reference.judgement(),
            case.reference,
            "nats-server's judgement: {reference:?}"
        );
        assert_eq!(
            ours.judgement(),
            case.ours,
            "our judgement: {ours:?}; nats-server's: {reference:?}"
        );
        if let (Verdict::Accepted(reference), Verdict::Accepted(ours)) = (&reference, &ours) {
            assert_eq!(
                reference == ours,
                case.is_equal,
                "digests: {reference} of nats-server, {ours} of ours"
            );
        }
    })
}

fn made_up_files(seed: u64) {
    let mut random = Rng::with_seed(seed);
    for number in 0..MADE_UP_FILES {
        let case = Case::of_text(made_up::file(&mut random));
        let (reference, ours) = both(&case);
        assert_eq!(
            reference,
            ours,
            "nats-server on the left, ours on the right; seed {seed}, file {number}:\n{}",
            String::from_utf8_lossy(&case.files["case.conf"])
        );
    }
}

/// What a reader of configurations says.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// With its digest.
    Accepted(String),
    Refused(Reason),
    /// It ended in another way, or does not end.
    None,
}

/// Why; the words are the servers' own, so all reasons are equal.
#[derive(Debug)]
struct Reason(#[expect(dead_code, reason = "shown when a test fails")] String);

impl PartialEq for Reason {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Verdict {
    fn judgement(&self) -> Judgement {
        match self {
            Self::Accepted(_) => Judgement::Accepts,
            Self::Refused(_) => Judgement::Refuses,
            Self::None => Judgement::GivesNone,
        }
    }
}

fn both(case: &Case) -> (Verdict, Verdict) {
    let folder = tempfile::tempdir().expect("a folder for a test");
    for (path, bytes) in &case.files {
        let path = folder.path().join(path);
        let parent = path.parent().expect("it is in the folder");
        fs::create_dir_all(parent).expect("a folder in a folder of ours");
        fs::write(path, bytes).expect("a file in a folder of ours");
    }
    let main = folder.path().join(MAIN);
    let patience = match case.reference {
        Judgement::GivesNone => PATIENCE_WITHOUT_VERDICT,
        _ => PATIENCE,
    };
    (
        reference(&main, &case.environment, patience),
        ours(&main, &case.environment),
    )
}

fn reference(main: &Path, environment: &BTreeMap<String, String>, patience: Duration) -> Verdict {
    let program = programs::nats_server().expect("this test needs it");
    let mut command = Command::new(program);
    command.arg("-t").arg("-c").arg(main);
    command.env_clear().envs(environment);
    // An include in the environment is relative to it.
    command.current_dir(main.parent().expect("it is in a folder"));
    let mut running = Program::spawn(&mut command).expect("the reference starts");
    let Some(status) = running.wait_for_exit(patience) else {
        return Verdict::None;
    };
    let output = running.output();
    let digest = output
        .split_once("is valid (")
        .and_then(|(_, rest)| rest.split_once(')'));
    match (status.code(), digest) {
        (Some(0), Some((digest, _))) => Verdict::Accepted(digest.to_owned()),
        (Some(1), None) => Verdict::Refused(Reason(output)),
        _ => Verdict::None,
    }
}

/// Our judgement under the rule of `-t`: a warning refuses too.
fn ours(main: &Path, environment: &BTreeMap<String, String>) -> Verdict {
    let environment: HashMap<_, _> = environment.clone().into_iter().collect();
    let parsed = natterjack_conf::load(main, &environment);
    let refusals = parsed
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity != Severity::Note)
        .map(|diagnostic| parsed.sources.render(diagnostic));
    let refusals: String = refusals.collect();
    match refusals.is_empty() {
        true => Verdict::Accepted(parsed.digest()),
        false => Verdict::Refused(Reason(refusals)),
    }
}
