//! The command line in Go's style, which is nats-server's: one dash or two, `-p 4222` or `-p=4222`, switches that take
//! a value only after `=`. Which flags there are is said by the rows of the table of options; here they are found, read
//! and listed. What they do to a configuration is up to [`Configuration::load`](super::Configuration::load).

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use natterjack_engine::access::Secret;

use super::table;

/// A flag: what it is called, what it takes, what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its names without dashes, the shortest first.
    pub names: &'static [&'static str],
    /// A word for its argument, as in `<port>`; empty for a switch.
    pub argument: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Under which heading it is listed.
    pub group: FlagGroup,
    /// What kind of value it takes.
    pub takes: Takes,
}

/// Headings of the list of flags, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagGroup {
    /// Where to listen, which files to use.
    Server,
    /// What is logged, and where to.
    Logging,
    /// Who may come in.
    Authorization,
    /// Encryption.
    Tls,
    /// Other servers.
    Cluster,
    /// Help and version.
    Common,
    /// nats-server has it, we do not yet.
    Unsupported,
}

/// Kinds of values of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// On, or off with `=false`.
    Switch,
    /// A whole number.
    Number,
    /// Any text.
    Text,
    /// A text that is not shown again.
    Secret,
}

/// What a command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// What to do.
    pub action: Action,
    /// The configuration file (`-c`).
    pub config: Option<PathBuf>,
    /// Whether only to check the configuration (`-t`).
    pub test: bool,
    /// The signal to send to a running server (`--signal`), as `command` or `command=pid`.
    pub signal: Option<String>,
    /// Flags that stand for options.
    pub flags: Flags,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Serve, check, or send a signal.
    #[default]
    Run,
    /// Print the flags.
    Help,
    /// Print how to use TLS.
    TlsHelp,
    /// Print the version.
    Version,
}

/// Flags that stand for options, as given on a command line. They go before what a file says, also when it is loaded
/// anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub(super) given: Vec<Given>,
}

/// One flag as given.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// By which of its names.
    pub(super) name: String,
    /// The first of its names.
    pub(super) flag: &'static str,
    pub(super) value: FlagValue,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum FlagValue {
    Switch(bool),
    Number(i64),
    Text(String),
    Secret(Secret),
}

impl fmt::Debug for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "-{}", self.name)
    }
}

impl Flags {
    /// Whether none was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The names they were given by.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|given| given.name.as_str())
    }
}

/// Why a command line cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// There is no such flag.
    #[error("unknown flag: -{name}{}", hint(*nearest))]
    Unknown {
        /// As given.
        name: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The command line ends after a flag that takes a value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// The value is of the wrong kind.
    #[error("invalid value {value:?} for flag -{name}: {expected} expected")]
    BadValue {
        /// The flag as given.
        name: String,
        /// The value as given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A word that is neither a flag nor `help` or `version`.
    #[error("unrecognized command: {0:?}")]
    Command(String),
    /// `-t` without a file.
    #[error("must specify [-c, --config] option to check configuration file syntax")]
    TestWithoutConfig,
}

impl FlagError {
    /// Whether the list of flags would help.
    #[must_use]
    pub fn wants_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::NoValue(_) | Self::BadValue { .. }
        )
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| {
        format!("; did you mean {}?", dashed(name))
    })
}

/// Flags that stand for no option.
const COMMANDS: &[Flag] = &[
    Flag {
        names: &["c", "config"],
        argument: "<file>",
        help: "Read the configuration from this file",
        group: FlagGroup::Server,
        takes: Takes::Text,
    },
    Flag {
        names: &["t"],
        argument: "",
        help: "Check the configuration and exit",
        group: FlagGroup::Server,
        takes: Takes::Switch,
    },
    Flag {
        names: &["sl", "signal"],
        argument: "<signal>[=<pid>]",
        help: "Send a signal to a running server: ldm, stop, quit, term, reopen, reload; \
               <pid> is its process id or a \
               file with it",
        group: FlagGroup::Server,
        takes: Takes::Text,
    },
    Flag {
        names: &["h", "help"],
        argument: "",
        help: "Print this help and exit",
        group: FlagGroup::Common,
        takes: Takes::Switch,
    },
    Flag {
        names: &["v", "version"],
        argument: "",
        help: "Print the version and exit",
        group: FlagGroup::Common,
        takes: Takes::Switch,
    },
    Flag {
        names: &["help_tls"],
        argument: "",
        help: "Print how to use TLS and exit",
        group: FlagGroup::Common,
        takes: Takes::Switch,
    },
];

/// All flags, those of options before the others, in the order of the table.
#[must_use]
pub fn all() -> Vec<&'static Flag> {
    let mut flags = table::flags();
    flags.extend(COMMANDS);
    flags
}

/// Reads a command line, without the program's name. As in Go, the first word that is no flag ends the flags.
///
/// # Errors
/// If it cannot be obeyed. Whether a value makes sense is found out by
/// [`Configuration::load`](super::Configuration::load), not here.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<CommandLine, FlagError> {
    let mut arguments = arguments.into_iter();
    let all = all();
    let mut line = CommandLine::default();
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
                Some("help") => line.action = Action::Help,
                Some("version") => line.action = Action::Version,
                Some(word) => return Err(FlagError::Command(word.into())),
            }
            return Ok(line);
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let flag = find(&all, name)?;
        let value = match flag.takes {
            Takes::Switch => FlagValue::Switch(boolean(name, value)?),
            takes => {
                let value = value
                    .or_else(|| arguments.next())
                    .ok_or_else(|| FlagError::NoValue(name.into()))?;
                match takes {
                    Takes::Number => FlagValue::Number(number(name, value)?),
                    Takes::Secret => FlagValue::Secret(value.into()),
                    Takes::Switch | Takes::Text => FlagValue::Text(value),
                }
            }
        };
        if !line.take(flag.names[0], &value) {
            line.flags.given.push(Given {
                name: name.to_owned(),
                flag: flag.names[0],
                value,
            });
        }
        if line.action != Action::Run {
            return Ok(line);
        }
    }
    if line.test && line.config.is_none() {
        return Err(FlagError::TestWithoutConfig);
    }
    Ok(line)
}

impl CommandLine {
    /// Whether the flag is one of those that stand for no option.
    fn take(&mut self, flag: &str, value: &FlagValue) -> bool {
        match (flag, value) {
            ("c", FlagValue::Text(path)) => {
                self.config = (!path.is_empty()).then(|| path.into());
            }
            ("sl", FlagValue::Text(signal)) => {
                self.signal = (!signal.is_empty()).then(|| signal.clone());
            }
            ("t", FlagValue::Switch(on)) => self.test = *on,
            ("h", FlagValue::Switch(on)) if *on => self.action = Action::Help,
            ("v", FlagValue::Switch(on)) if *on => self.action = Action::Version,
            ("help_tls", FlagValue::Switch(on)) if *on => self.action = Action::TlsHelp,
            ("h" | "v" | "help_tls", _) => {}
            _ => return false,
        }
        true
    }
}

fn find(all: &[&'static Flag], name: &str) -> Result<&'static Flag, FlagError> {
    if let Some(flag) = all.iter().find(|flag| flag.names.contains(&name)) {
        return Ok(flag);
    }
    let known = all
        .iter()
        .filter(|flag| flag.group != FlagGroup::Unsupported)
        .flat_map(|flag| flag.names.iter().copied());
    Err(FlagError::Unknown {
        name: name.into(),
        nearest: natterjack_conf::nearest(name, known),
    })
}

fn number(name: &str, value: String) -> Result<i64, FlagError> {
    value.parse().map_err(|_| FlagError::BadValue {
        name: name.into(),
        value,
        expected: "a whole number",
    })
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

pub(super) fn dashed(name: &str) -> String {
    // Letters in a row, like -DVV, are several short ones.
    let is_short = name.len() <= 2 || name.bytes().all(|byte| byte.is_ascii_uppercase());
    format!("{}{name}", if is_short { "-" } else { "--" })
}

/// Columns of a line of help.
const LINE_WIDTH_MAX: usize = 100;
/// Column in which explanations begin.
const HELP_COLUMN: usize = 40;

/// The list of flags, under their headings, for `--help`.
#[must_use]
pub fn usage() -> String {
    let groups = [
        (FlagGroup::Server, "Server"),
        (FlagGroup::Logging, "Logging"),
        (FlagGroup::Authorization, "Authorization"),
        (FlagGroup::Tls, "TLS"),
        (FlagGroup::Cluster, "Cluster"),
        (FlagGroup::Common, "Common"),
    ];
    let all = all();
    let mut usage = String::new();
    for (group, title) in groups {
        // Writing to a String cannot fail.
        let _ = writeln!(usage, "\n{title}");
        for flag in all.iter().filter(|flag| flag.group == group) {
            let names: Vec<_> = flag.names.iter().map(|name| dashed(name)).collect();
            let head = format!("  {} {}", names.join(", "), flag.argument);
            write_entry(&mut usage, head.trim_end(), flag.help);
        }
    }
    usage
}

/// A flag and its explanation, which is wrapped and indented.
fn write_entry(usage: &mut String, head: &str, help: &str) {
    let mut line = format!("{head:<HELP_COLUMN$}");
    if head.len() >= HELP_COLUMN {
        usage.push_str(head);
        usage.push('\n');
        line = " ".repeat(HELP_COLUMN);
    }
    let mut column = HELP_COLUMN;
    for word in help.split(' ') {
        if column > HELP_COLUMN && column + 1 + word.len() > LINE_WIDTH_MAX {
            usage.push_str(line.trim_end());
            usage.push('\n');
            line = " ".repeat(HELP_COLUMN);
            column = HELP_COLUMN;
        }
        if column > HELP_COLUMN {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += word.len();
    }
    usage.push_str(line.trim_end());
    usage.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<CommandLine, FlagError> {
        parse(line.split_whitespace().map(String::from))
    }

    fn flags(line: &str) -> Flags {
        match read(line) {
            Ok(command) if command.action == Action::Run => command.flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn check(line: &str, expected: &str) {
        assert_eq!(read(line).unwrap_err().to_string(), expected, "{line}");
    }

    #[test]
    fn one_dash_or_two_and_equals_or_not() {
        for line in ["-p 4333", "--p 4333", "-p=4333", "--p=4333"] {
            let given = &flags(line).given[0];
            assert!(
                given.flag == "p" && given.value == FlagValue::Number(4333),
                "{line}"
            );
        }
        for line in ["-port=4333", "--port 4333"] {
            assert_eq!(flags(line).given[0].flag, "p", "{line}");
        }
        assert!(flags("-l=a=b").given[0].value == FlagValue::Text("a=b".into()));
        assert!(flags("-D").given[0].value == FlagValue::Switch(true));
        assert!(flags("-T=0").given[0].value == FlagValue::Switch(false));
        assert_eq!(read("-D false"), Err(FlagError::Command("false".into())));
    }

    #[test]
    fn commands_of_the_daemon() {
        let line = read("-c a.conf -t -p 1").unwrap();
        assert_eq!(line.config, Some("a.conf".into()));
        assert!(line.test && line.flags.names().eq(["p"]));
        let line = read("--signal reload=/run/x.pid").unwrap();
        assert_eq!(line.signal.as_deref(), Some("reload=/run/x.pid"));
        for line in ["-h", "--help", "help", "-D -help", "-- help"] {
            assert_eq!(read(line).unwrap().action, Action::Help, "{line}");
        }
        for line in ["-v", "--version", "version"] {
            assert_eq!(read(line).unwrap().action, Action::Version, "{line}");
        }
        assert_eq!(read("--help_tls").unwrap().action, Action::TlsHelp);
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
            "-D=maybe",
            "invalid value \"maybe\" for flag -D: true or false expected",
        );
        check("serve", "unrecognized command: \"serve\"");
        check(
            "-t",
            "must specify [-c, --config] option to check configuration file syntax",
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().flat_map(|flag| flag.names).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    /// Section 8 of the real server's usage: every flag it has is known here, if only to be refused.
    #[test]
    fn the_flags_of_nats_server_are_known() {
        let known: Vec<_> = all().iter().flat_map(|flag| flag.names).collect();
        let theirs = "a addr net p port n name server_name P pid m http_port ms https_port c config t sl signal \
            client_advertise ports_file_dir l log T logtime logtime_utc s syslog r remote_syslog D debug V trace VV DV \
            DVV log_size_limit max_traced_msg_len js jetstream sd store_dir user pass auth tls tlsverify tlscert tlskey \
            tlscacert routes cluster cluster_listen cluster_name no_advertise cluster_advertise connect_retries profile \
            h help v version help_tls";
        for name in theirs.split_whitespace() {
            assert!(known.contains(&&name), "-{name}");
        }
    }

    #[test]
    fn usage_fits_a_terminal() {
        let usage = usage();
        assert!(
            usage.contains("-p, --port <port>") && usage.contains("  -DVV "),
            "{usage}"
        );
        assert!(
            usage
                .lines()
                .all(|line| line.chars().count() <= LINE_WIDTH_MAX),
            "{usage}"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", flags("--user a --pass s3cret --auth s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
