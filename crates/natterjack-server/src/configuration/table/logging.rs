//! What the process logs, and the files it writes.

use crate::configuration::Configuration;
use crate::configuration::codec::{self, COUNT, COUNT_U32, FILE_SIZE, PATH, SWITCH, TEXT};
use crate::configuration::daemon::LogFormat;
use crate::configuration::row::Row;
use crate::configuration::shape::{Codec, Custom, plain, plain_or_default};

use super::flag;

pub(super) static ROWS: &[Row<Configuration>] = &[
    plain!(
        Configuration,
        "debug",
        daemon.debug,
        SWITCH,
        "Log more, for finding out what goes wrong."
    )
    .flag(flag!(
        ["D", "debug"],
        "",
        Logging,
        Switch,
        "Log more, for finding out what goes wrong"
    )),
    plain!(
        Configuration,
        "trace",
        daemon.trace,
        SWITCH,
        "Log every protocol operation."
    )
    .flag(flag!(
        ["V", "trace"],
        "",
        Logging,
        Switch,
        "Log every protocol operation"
    )),
    Row::new(
        "trace_verbose",
        &Custom::<Configuration> {
            kind: "true or false",
            read: |target, data, reader| {
                if let Some(on) = codec::switch(data, reader) {
                    target.daemon.trace_verbose = on;
                    target.daemon.trace = on;
                }
            },
            show: |target| Some(target.daemon.trace_verbose.to_string()),
            is_equal: |one, other| one.daemon.trace_verbose == other.daemon.trace_verbose,
            is_secret: false,
        },
        "Log the protocol operations of the system account, too; sets trace.",
    )
    .sets(&["trace"])
    .flag(flag!(
        ["VV"],
        "",
        Logging,
        Switch,
        "Log every protocol operation, those of the system account, too"
    )),
    Row::new(
        "trace_headers",
        &Custom::<Configuration> {
            kind: "true or false",
            read: |target, data, reader| {
                if let Some(on) = codec::switch(data, reader) {
                    target.daemon.trace_headers = on;
                    target.daemon.trace = on;
                }
            },
            show: |target| Some(target.daemon.trace_headers.to_string()),
            is_equal: |one, other| one.daemon.trace_headers == other.daemon.trace_headers,
            is_secret: false,
        },
        "Log only the headers of messages; sets trace.",
    )
    .inert("neither headers nor payloads are logged")
    .sets(&["trace"]),
    Row::new(
        "trace",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            if let Some(on) = codec::switch(data, reader) {
                target.daemon.debug = on;
                target.daemon.trace = on;
            }
        }),
        "",
    )
    .flag_only()
    .sets(&["debug"])
    .flag(flag!(["DV"], "", Logging, Switch, "-D and -V")),
    Row::new(
        "trace_verbose",
        &Custom::<Configuration>::shorthand("", |target, data, reader| {
            if let Some(on) = codec::switch(data, reader) {
                target.daemon.debug = on;
                target.daemon.trace = on;
                target.daemon.trace_verbose = on;
            }
        }),
        "",
    )
    .flag_only()
    .sets(&["debug", "trace"])
    .flag(flag!(["DVV"], "", Logging, Switch, "-D and -VV")),
    plain!(
        Configuration,
        "max_traced_msg_len",
        daemon.max_traced_msg_len,
        COUNT,
        "Bytes of a message that are logged with trace; 0 for no bound.",
    )
    .inert("payloads are never logged")
    .flag(flag!(
        ["max_traced_msg_len"],
        "<bytes>",
        Logging,
        Number,
        "Log at most so many bytes of a message (default 0: all)"
    )),
    plain!(
        Configuration,
        "logtime",
        daemon.logtime,
        SWITCH,
        "Put the time on each log line."
    )
    .flag(flag!(
        ["T", "logtime"],
        "",
        Logging,
        Switch,
        "Put the time on each log line (default true; -T=false for none)"
    )),
    plain!(
        Configuration,
        "logtime_utc",
        daemon.logtime_utc,
        SWITCH,
        "Log in UTC instead of local time.",
    )
    .flag(flag!(
        ["logtime_utc"],
        "",
        Logging,
        Switch,
        "Log in UTC instead of local time"
    )),
    plain!(
        Configuration,
        "log_file",
        daemon.log_file,
        PATH,
        "File to log to instead of standard error.",
    )
    .alias(&["logfile"])
    .flag(flag!(
        ["l", "log"],
        "<file>",
        Logging,
        Text,
        "Log to this file instead of standard error"
    )),
    plain!(
        Configuration,
        "log_size_limit",
        daemon.log_size_limit,
        FILE_SIZE,
        "Bytes after which a new log file is begun; 0 for never.",
    )
    .alias(&["logfile_size_limit"])
    .flag(flag!(
        ["log_size_limit"],
        "<bytes>",
        Logging,
        Number,
        "Begin a new log file after so many bytes (default 0: never)"
    )),
    plain!(
        Configuration,
        "log_max_num",
        daemon.log_max_num,
        COUNT,
        "Log files that are kept when a new one is begun; 0 for all.",
    )
    .alias(&["logfile_max_num"]),
    plain!(
        Configuration,
        "log_format",
        daemon.log_format,
        LOG_FORMAT,
        "What log lines look like: as nats-server's, or a JSON object each.",
    )
    .ours()
    .flag(flag!(
        ["log_format"],
        "<format>",
        Logging,
        Text,
        "What log lines look like: text, as nats-server's (default), or json"
    )),
    plain!(
        Configuration,
        "syslog",
        daemon.syslog,
        SWITCH,
        "Log to the system's log."
    )
    .flag(flag!(
        ["s", "syslog"],
        "",
        Logging,
        Switch,
        "Log to the system's log"
    )),
    plain!(
        Configuration,
        "remote_syslog",
        daemon.remote_syslog,
        TEXT,
        "Address of a system's log elsewhere, as udp://127.0.0.1:514.",
    )
    .flag(flag!(
        ["r", "remote_syslog"],
        "<url>",
        Logging,
        Text,
        "Log to the system's log at this address, as udp://127.0.0.1:514"
    )),
    plain!(
        Configuration,
        "pid_file",
        daemon.pid_file,
        PATH,
        "File to write the process id to.",
    )
    .alias(&["pidfile"])
    .flag(flag!(
        ["P", "pid"],
        "<file>",
        Server,
        Text,
        "Write the process id to this file"
    )),
    plain!(
        Configuration,
        "ports_file_dir",
        daemon.ports_file_dir,
        PATH,
        "Folder to write a file with the addresses that are listened on to.",
    )
    .flag(flag!(
        ["ports_file_dir"],
        "<folder>",
        Server,
        Text,
        "Write the addresses that are listened on to a file in this folder"
    )),
    plain_or_default!(
        Configuration,
        "connect_error_reports",
        options.connect_error_reports,
        COUNT_U32,
        "Log one of so many failed attempts to reach a peer that was not reached before.",
    ),
    plain_or_default!(
        Configuration,
        "reconnect_error_reports",
        options.reconnect_error_reports,
        COUNT_U32,
        "Log one of so many failed attempts to reach a peer again.",
    ),
];

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

static LOG_FORMAT: Codec<LogFormat> = Codec {
    kind: "text or json",
    read: |data, reader| codec::choice(data, LOG_FORMATS, reader),
    show: |format| codec::word_of(format, LOG_FORMATS),
    is_secret: false,
};
