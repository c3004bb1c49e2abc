//! `--signal`: telling a running server something.
//!
//! The words, the ways to name a process and the texts are nats-server's. A process named by a file must be a server:
//! files outlive their processes, and ids are given out again.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;

use natterjack_conf::nearest;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Processes, SERVERS};

/// Why nobody, or not everybody, was told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignalError {
    #[error(
        "unknown signal {command:?}{}; there are ldm, stop, quit, term, reopen and reload",
        hint(nearest)
    )]
    Unknown {
        command: String,
        nearest: Option<&'static str>,
    },
    #[error("invalid signal parameters: {0:?} has more than one `=`")]
    Parameters(String),
    #[error("invalid pid: {0}: neither a process id nor a file with one")]
    Pid(String),
    #[error("{path}: process {pid} is {program}, not a server; the file is out of date")]
    NotAServer {
        path: String,
        pid: u32,
        program: String,
    },
    #[error("multiple {PROGRAM} processes running:{}", list(.0))]
    Several(Vec<u32>),
    #[error("no {PROGRAM} processes running")]
    Nobody,
    #[error("no {PROGRAM} processes running whose process id begins with {0}")]
    NobodyLike(String),
    #[error("unable to resolve pid, try providing one")]
    NotFound,
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Failed(Vec<Failure>),
}

/// A process that could not be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    command: &'static str,
    pid: u32,
    errno: Errno,
}

/// Whom we look for when no process is named.
const PROGRAM: &str = SERVERS[0];

const COMMANDS: [(&str, Signal); 6] = [
    ("ldm", Signal::USR2),
    ("stop", Signal::KILL),
    ("quit", Signal::INT),
    ("term", Signal::TERM),
    ("reopen", Signal::USR1),
    ("reload", Signal::HUP),
];

/// Does what the argument of `--signal` says: `command`, `command=pid`, `command=file`, `command=*` or `command=12*`.
pub(crate) fn obey(argument: &str) -> Result<(), SignalError> {
    let kill = |pid: u32, signal| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or(Errno::SRCH)?, signal)
    };
    obey_among(argument, &Processes::of_this_machine(), kill)
}

fn obey_among(
    argument: &str,
    processes: &Processes,
    mut kill: impl FnMut(u32, Signal) -> Result<(), Errno>,
) -> Result<(), SignalError> {
    let (command, whom) = argument.split_once('=').unwrap_or((argument, ""));
    if whom.contains('=') && !std::path::Path::new(whom).exists() {
        return Err(SignalError::Parameters(argument.into()));
    }
    let Some((command, signal)) = COMMANDS.into_iter().find(|(name, _)| *name == command) else {
        return Err(SignalError::Unknown {
            command: command.into(),
            nearest: nearest(command, COMMANDS.into_iter().map(|(name, _)| name)),
        });
    };
    let pids = resolve(whom, processes)?;
    let failures: Vec<Failure> = pids
        .into_iter()
        .filter_map(|pid| {
            let errno = kill(pid, signal).err()?;
            Some(Failure {
                command,
                pid,
                errno,
            })
        })
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(SignalError::Failed(failures))
    }
}

/// The processes that are meant.
fn resolve(whom: &str, processes: &Processes) -> Result<Vec<u32>, SignalError> {
    if let Some(start) = whom.strip_suffix('*') {
        return resolve_all(start, processes);
    }
    if !whom.is_empty() {
        return Ok(vec![resolve_one(whom, processes)?]);
    }
    let pids = processes.running(PROGRAM).ok_or(SignalError::NotFound)?;
    match pids.len() {
        0 => Err(SignalError::Nobody),
        1 => Ok(pids),
        _ => Err(SignalError::Several(pids)),
    }
}

fn resolve_all(start: &str, processes: &Processes) -> Result<Vec<u32>, SignalError> {
    if !start.is_empty() && parse_pid(start).is_none() {
        return Err(SignalError::Pid(format!("{start}*")));
    }
    let mut pids = processes.running(PROGRAM).ok_or(SignalError::NotFound)?;
    if pids.is_empty() {
        return Err(SignalError::Nobody);
    }
    pids.retain(|pid| pid.to_string().starts_with(start));
    if pids.is_empty() {
        return Err(SignalError::NobodyLike(start.into()));
    }
    Ok(pids)
}

fn resolve_one(whom: &str, processes: &Processes) -> Result<u32, SignalError> {
    // A file goes first, as in nats-server, also if its name is a number.
    let Ok(text) = fs::read_to_string(whom) else {
        return parse_pid(whom).ok_or_else(|| SignalError::Pid(whom.into()));
    };
    let text = text.trim();
    let pid = parse_pid(text).ok_or_else(|| SignalError::Pid(format!("{text} in {whom}")))?;
    let own = std::env::current_exe().ok();
    let own = own
        .as_deref()
        .and_then(|path| path.file_name())
        .and_then(|name| name.to_str());
    let is_server = |pid| {
        let names = SERVERS.into_iter().chain(own);
        names.into_iter().any(|name| processes.runs(pid, name))
    };
    match processes.name(pid) {
        Some(program) if !is_server(pid) => Err(SignalError::NotAServer {
            path: whom.into(),
            pid,
            program,
        }),
        _ => Ok(pid),
    }
}

/// Zero would be a whole group of processes.
fn parse_pid(text: &str) -> Option<u32> {
    text.parse().ok().filter(|pid| *pid > 0)
}

fn hint(nearest: &Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!(" (did you mean {nearest:?}?)")
    })
}

fn list(pids: &[u32]) -> String {
    let mut text = String::new();
    for pid in pids {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{pid}");
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            pid,
            errno,
        } = self;
        write!(formatter, "signal {command:?} {pid}: ")?;
        match *errno {
            Errno::SRCH => formatter.write_str("no such process"),
            Errno::PERM => formatter.write_str("operation not permitted"),
            errno => write!(formatter, "{}", io::Error::from(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::tests::invented;

    const DAEMON: (u32, &str, &str, u64) = (41, "natterjackd", "/bin/natterjackd", 2_000);
    const SECOND: (u32, &str, &str, u64) = (42, "natterjackd", "/bin/natterjackd", 2_000);
    const THIRD: (u32, &str, &str, u64) = (511, "natterjackd", "/bin/natterjackd", 2_000);
    const SHELL: (u32, &str, &str, u64) = (77, "bash", "/bin/bash", 2_000);

    /// Who is sent which signal, or what is said. `PID` in the argument stands for a file with process 41, `OLD` for one
    /// with process 77, `BAD` for one with something else.
    #[track_caller]
    fn check(running: &[(u32, &str, &str, u64)], argument: &str, expected: Result<&[u32], &str>) {
        let folder = tempfile::tempdir().unwrap();
        let processes = invented(&folder.path().join("proc"), running);
        let mut argument = argument.to_owned();
        for (name, text) in [("PID", "41\n"), ("OLD", "77"), ("BAD", "x")] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            argument = argument.replace(name, path.to_str().unwrap());
        }
        let mut told = Vec::new();
        let outcome = obey_among(&argument, &processes, |pid, signal| {
            assert_eq!(signal, Signal::HUP);
            if pid == 999 {
                return Err(Errno::SRCH);
            }
            told.push(pid);
            Ok(())
        });
        let folder = format!("{}/", folder.path().display());
        let outcome = outcome
            .map(|()| told.as_slice())
            .map_err(|error| error.to_string().replace(&folder, ""));
        assert_eq!(
            outcome.as_deref(),
            expected
                .as_deref()
                .map_err(|text| text.to_string())
                .as_deref(),
            "{argument}"
        );
    }

    #[test]
    fn a_process_is_found_by_name_number_and_file() {
        check(&[DAEMON, SHELL], "reload", Ok(&[41]));
        check(&[DAEMON, SECOND], "reload=42", Ok(&[42]));
        check(&[DAEMON, SECOND], "reload=PID", Ok(&[41]));
        check(&[DAEMON, SECOND, THIRD], "reload=*", Ok(&[41, 42, 511]));
        check(&[DAEMON, SECOND, THIRD], "reload=4*", Ok(&[41, 42]));
        // Whoever names a process by its number knows why.
        check(&[SHELL], "reload=77", Ok(&[77]));
    }

    #[test]
    fn mistakes() {
        check(&[], "reload", Err("no natterjackd processes running"));
        check(&[], "reload=*", Err("no natterjackd processes running"));
        check(
            &[DAEMON],
            "reload=5*",
            Err("no natterjackd processes running whose process id begins with 5"),
        );
        check(
            &[DAEMON, SECOND],
            "reload",
            Err("multiple natterjackd processes running:\n41\n42"),
        );
        check(
            &[],
            "reload=999",
            Err("signal \"reload\" 999: no such process"),
        );
        check(
            &[],
            "reload=abc",
            Err("invalid pid: abc: neither a process id nor a file with one"),
        );
        for whom in ["0", "-1", "0*", "x*"] {
            let argument = format!("reload={whom}");
            check(
                &[DAEMON],
                &argument,
                Err(&format!(
                    "invalid pid: {whom}: neither a process id nor a file with one"
                )),
            );
        }
        check(
            &[],
            "reload=BAD",
            Err("invalid pid: x in BAD: neither a process id nor a file with one"),
        );
        check(
            &[SHELL],
            "reload=OLD",
            Err("OLD: process 77 is bash, not a server; the file is out of date"),
        );
        check(
            &[DAEMON],
            "relod",
            Err(
                "unknown signal \"relod\" (did you mean \"reload\"?); there are ldm, stop, quit, term, reopen and reload",
            ),
        );
        check(
            &[DAEMON],
            "reload=a=b",
            Err("invalid signal parameters: \"reload=a=b\" has more than one `=`"),
        );
    }
}
