//! The command line in Go's style, which is nats-server's: one dash or two, `-p 4222` or `-p=4222`, switches that take
//! a value only after `=`. One table says what exists; parsing and the help both read it.

use std::fmt::Write;
use std::path::PathBuf;

use natterjack_bus::settings::nearest;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    Help,
    Version,
    Run(Box<Flags>),
}

/// Flags as given; what is `None` was not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) host: Option<String>,
    /// -1: any free port.
    pub(crate) port: Option<i64>,
    pub(crate) server_name: Option<String>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) log_time: Option<bool>,
    pub(crate) log_utc: bool,
    pub(crate) debug: bool,
    pub(crate) trace: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) token: Option<String>,
}

/// Why the command line cannot be obeyed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    #[error("unknown flag: -{name}{hint}")]
    Unknown { name: String, hint: String },
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    #[error("invalid value {value:?} for flag -{name}: {expected} expected")]
    BadValue {
        name: String,
        value: String,
        expected: &'static str,
    },
    #[error("-{0} is not supported yet")]
    Unsupported(String),
    #[error(
        "-{0} is not supported yet: monitoring is not served; leave the flag out, or give it port 0"
    )]
    Monitoring(String),
    #[error("unrecognized command: {0:?}")]
    Command(String),
    #[error("server name {0:?} cannot contain spaces or be empty")]
    ServerName(String),
    #[error("-user, -pass and -auth: give a user with a password, or a token, or none of them")]
    Login,
    #[error("port must be between 1 and 65535, 0 for 4222, or -1 for any free port, not {0}")]
    Port(i64),
}

impl FlagError {
    /// Whether the list of flags would help.
    pub(crate) fn wants_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::NoValue(_) | Self::BadValue { .. }
        )
    }
}

enum Kind {
    Text(fn(&mut Flags, String)),
    Port(fn(&mut Flags, i64)),
    Switch(fn(&mut Flags, bool)),
    MonitoringPort,
    Help,
    Version,
    /// nats-server has it, we do not. `true` if it is a switch there.
    Missing(bool),
}

struct Flag {
    names: &'static [&'static str],
    argument: &'static str,
    help: &'static str,
    kind: Kind,
}

const fn flag(
    names: &'static [&'static str],
    argument: &'static str,
    help: &'static str,
    kind: Kind,
) -> Flag {
    Flag {
        names,
        argument,
        help,
        kind,
    }
}

const FLAGS: &[Flag] = &[
    flag(
        &["a", "addr", "net"],
        "<host>",
        "Listen for clients on this host or address (default 0.0.0.0)",
        Kind::Text(|flags, value| flags.host = Some(value)),
    ),
    flag(
        &["p", "port"],
        "<port>",
        "Listen for clients on this port, -1 for any free one (default 4222)",
        Kind::Port(|flags, value| flags.port = Some(value)),
    ),
    flag(
        &["n", "name", "server_name"],
        "<name>",
        "Name of this server, without spaces (default: its id)",
        Kind::Text(|flags, value| flags.server_name = Some(value)),
    ),
    flag(
        &["P", "pid"],
        "<file>",
        "Write the process id to this file, and remove it at the end",
        Kind::Text(|flags, value| flags.pid_file = Some(value.into())),
    ),
    flag(
        &["m", "http_port"],
        "<port>",
        "Port for monitoring (not served yet: only 0 is accepted)",
        Kind::MonitoringPort,
    ),
    flag(
        &["l", "log"],
        "<file>",
        "Log to this file instead of standard error; SIGUSR1 opens it anew",
        Kind::Text(|flags, value| flags.log_file = Some(value.into())),
    ),
    flag(
        &["T", "logtime"],
        "",
        "Put the time on each log line (default true; -T=false for none)",
        Kind::Switch(|flags, value| flags.log_time = Some(value)),
    ),
    flag(
        &["logtime_utc"],
        "",
        "Log in UTC instead of local time",
        Kind::Switch(|flags, value| flags.log_utc = value),
    ),
    flag(
        &["D", "debug"],
        "",
        "Log more, for finding out what goes wrong",
        Kind::Switch(|flags, value| flags.debug = value),
    ),
    flag(
        &["V", "trace"],
        "",
        "Log every protocol operation, without payloads",
        Kind::Switch(|flags, value| flags.trace = value),
    ),
    flag(
        &["DV"],
        "",
        "Both of these",
        Kind::Switch(|flags, value| {
            flags.debug = value;
            flags.trace = value;
        }),
    ),
    flag(
        &["user"],
        "<user>",
        "Let in only this user, with the password of --pass",
        Kind::Text(|flags, value| flags.user = Some(value)),
    ),
    flag(
        &["pass"],
        "<password>",
        "Password of --user",
        Kind::Text(|flags, value| flags.password = Some(value)),
    ),
    flag(
        &["auth"],
        "<token>",
        "Let in only who knows this token",
        Kind::Text(|flags, value| flags.token = Some(value)),
    ),
    flag(
        &["v", "version"],
        "",
        "Print the version and exit",
        Kind::Version,
    ),
    flag(&["h", "help"], "", "Print this help and exit", Kind::Help),
    flag(
        &[
            "c",
            "config",
            "ms",
            "https_port",
            "sl",
            "signal",
            "client_advertise",
            "ports_file_dir",
            "r",
            "remote_syslog",
            "log_size_limit",
            "max_traced_msg_len",
            "sd",
            "store_dir",
            "tlscert",
            "tlskey",
            "tlscacert",
            "routes",
            "cluster",
            "cluster_name",
            "cluster_advertise",
            "connect_retries",
            "cluster_listen",
            "profile",
        ],
        "",
        "",
        Kind::Missing(false),
    ),
    flag(
        &[
            "t",
            "s",
            "syslog",
            "VV",
            "DVV",
            "js",
            "jetstream",
            "tls",
            "tlsverify",
            "no_advertise",
            "help_tls",
        ],
        "",
        "",
        Kind::Missing(true),
    ),
];

/// Reads the command line. As in Go, the first word that is no flag ends the flags.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Invocation, FlagError> {
    let mut arguments = arguments.into_iter();
    let mut flags = Flags::default();
    while let Some(argument) = arguments.next() {
        let name = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-'));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            // `-` alone is a word; `--` alone only ends the flags.
            let word = if argument == "--" {
                arguments.next()
            } else {
                Some(argument)
            };
            match word.as_deref() {
                None => break,
                Some("help") => return Ok(Invocation::Help),
                Some("version") => return Ok(Invocation::Version),
                Some(word) => return Err(FlagError::Command(word.into())),
            }
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, None),
        };
        let mut need_value = |value: Option<String>| {
            value
                .or_else(|| arguments.next())
                .ok_or_else(|| FlagError::NoValue(name.into()))
        };
        match &find(name)?.kind {
            Kind::Help => return Ok(Invocation::Help),
            Kind::Version => return Ok(Invocation::Version),
            Kind::Text(set) => set(&mut flags, need_value(value)?),
            Kind::Port(set) => set(&mut flags, number(name, &need_value(value)?)?),
            Kind::Switch(set) => set(&mut flags, boolean(name, value)?),
            Kind::MonitoringPort => {
                if number(name, &need_value(value)?)? != 0 {
                    return Err(FlagError::Monitoring(name.into()));
                }
            }
            Kind::Missing(is_switch) => {
                if *is_switch && !boolean(name, value)? {
                    continue;
                }
                return Err(FlagError::Unsupported(name.into()));
            }
        }
    }
    check(&flags)?;
    Ok(Invocation::Run(Box::new(flags)))
}

fn check(flags: &Flags) -> Result<(), FlagError> {
    match flags.port {
        Some(port) if !(-1..=i64::from(u16::MAX)).contains(&port) => {
            return Err(FlagError::Port(port));
        }
        _ => {}
    }
    match (&flags.user, &flags.password, &flags.token) {
        (None, None, _) | (Some(_), Some(_), None) => {}
        _ => return Err(FlagError::Login),
    }
    match &flags.server_name {
        Some(name) if name.is_empty() || name.contains(char::is_whitespace) => {
            Err(FlagError::ServerName(name.clone()))
        }
        _ => Ok(()),
    }
}

fn find(name: &str) -> Result<&'static Flag, FlagError> {
    if let Some(flag) = FLAGS.iter().find(|flag| flag.names.contains(&name)) {
        return Ok(flag);
    }
    let known = FLAGS
        .iter()
        .filter(|flag| !matches!(flag.kind, Kind::Missing(_)))
        .flat_map(|flag| flag.names.iter().copied());
    let hint = nearest(name, known).map_or_else(String::new, |known| {
        format!("; did you mean {}?", dashed(known))
    });
    Err(FlagError::Unknown {
        name: name.into(),
        hint,
    })
}

fn number(name: &str, value: &str) -> Result<i64, FlagError> {
    let bad = || FlagError::BadValue {
        name: name.into(),
        value: value.into(),
        expected: "a whole number",
    };
    value.parse().map_err(|_| bad())
}

/// The words Go's `strconv.ParseBool` takes.
fn boolean(name: &str, value: Option<String>) -> Result<bool, FlagError> {
    let Some(value) = value else { return Ok(true) };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(FlagError::BadValue {
            name: name.into(),
            value,
            expected: "true or false",
        }),
    }
}

fn dashed(name: &str) -> String {
    format!("{}{name}", if name.len() <= 2 { "-" } else { "--" })
}

/// The help text.
pub(crate) fn usage() -> String {
    let mut usage = String::from(
        "\nUsage: natterjackd [flags]\n\nA NATS server. Flags take one dash or two.\n\n",
    );
    for flag in FLAGS
        .iter()
        .filter(|flag| !matches!(flag.kind, Kind::Missing(_)))
    {
        let names: Vec<_> = flag.names.iter().map(|name| dashed(name)).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            usage,
            "  {:<38}{}",
            format!("{} {}", names.join(", "), flag.argument),
            flag.help
        );
    }
    usage.push_str(
        "\nSignals: INT and TERM stop it, USR1 opens the log file anew, USR2 lets clients leave first (lame duck).\n",
    );
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, FlagError> {
        parse(line.split_whitespace().map(String::from))
    }

    fn flags(line: &str) -> Flags {
        match read(line) {
            Ok(Invocation::Run(flags)) => *flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn check(line: &str, expected: &str) {
        assert_eq!(read(line).unwrap_err().to_string(), expected, "{line}");
    }

    #[test]
    fn one_dash_or_two_and_equals_or_not() {
        for line in [
            "-p 4333",
            "--p 4333",
            "-port=4333",
            "--port 4333",
            "--port=4333",
        ] {
            assert_eq!(flags(line).port, Some(4333), "{line}");
        }
        for line in ["-a h", "--addr=h", "-net h"] {
            assert_eq!(flags(line).host.as_deref(), Some("h"), "{line}");
        }
        for line in ["-n x", "-name x", "--server_name x"] {
            assert_eq!(flags(line).server_name.as_deref(), Some("x"), "{line}");
        }
        assert_eq!(flags("-p -1").port, Some(-1));
        assert_eq!(flags("-l=a=b").log_file, Some("a=b".into()));
    }

    #[test]
    fn switches() {
        assert_eq!(flags(""), Flags::default());
        assert!(flags("-D").debug && flags("--trace=true").trace && flags("-logtime_utc").log_utc);
        assert!(!flags("-D=false").debug);
        let both = flags("-DV");
        assert!(both.debug && both.trace);
        assert_eq!(flags("-T=0").log_time, Some(false));
        assert_eq!(read("-D false"), Err(FlagError::Command("false".into())));
    }

    #[test]
    fn help_and_version_in_all_their_forms() {
        for line in ["-h", "--help", "help", "-D -help", "-- help"] {
            assert_eq!(read(line), Ok(Invocation::Help), "{line}");
        }
        for line in ["-v", "--version", "version"] {
            assert_eq!(read(line), Ok(Invocation::Version), "{line}");
        }
        let usage = usage();
        assert!(
            usage.contains("-p, --port <port>") && usage.contains("-DV"),
            "{usage}"
        );
        assert!(
            usage.lines().all(|line| line.chars().count() <= 120),
            "{usage}"
        );
    }

    #[test]
    fn mistakes() {
        check("--prot 1", "unknown flag: -prot; did you mean --port?");
        check("-zzz", "unknown flag: -zzz");
        check("-p", "flag needs an argument: -p");
        check(
            "-p abc",
            "invalid value \"abc\" for flag -p: a whole number expected",
        );
        check(
            "-p 70000",
            "port must be between 1 and 65535, 0 for 4222, or -1 for any free port, not 70000",
        );
        check(
            "-D=maybe",
            "invalid value \"maybe\" for flag -D: true or false expected",
        );
        check("serve", "unrecognized command: \"serve\"");
        check(
            "--user a",
            "-user, -pass and -auth: give a user with a password, or a token, or none of them",
        );
        check(
            "--auth t --user a --pass b",
            "-user, -pass and -auth: give a user with a password, or a token, or none of them",
        );
        check("-n=", "server name \"\" cannot contain spaces or be empty");
        assert_eq!(
            parse(["-n".into(), "a b".into()]),
            Err(FlagError::ServerName("a b".into()))
        );
    }

    #[test]
    fn what_is_not_there_yet_says_so() {
        check("-c x.conf", "-c is not supported yet");
        check("-js", "-js is not supported yet");
        check(
            "-m 8222",
            "-m is not supported yet: monitoring is not served; leave the flag out, or give it port 0",
        );
        assert_eq!(flags("-m 0"), Flags::default());
        assert_eq!(flags("-js=false"), Flags::default());
    }
}
