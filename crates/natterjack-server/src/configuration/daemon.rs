//! What concerns the process around a server: its log, its files. An embedder has no use for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Options of the process that a server runs in. Plain data; defaults are those of nats-server 2.15.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Daemon {
    /// Whether lines for finding out what goes wrong are logged.
    pub debug: bool,
    /// Whether every protocol operation is logged.
    pub trace: bool,
    /// With `trace`: whether those of the system account are, too.
    pub trace_verbose: bool,
    /// With `trace`: whether of messages only the headers are logged.
    pub trace_headers: bool,
    /// Bytes of a message that are logged with `trace`; 0 sets no bound.
    pub max_traced_msg_len: usize,
    /// Whether log lines carry the time.
    pub logtime: bool,
    /// Whether that is UTC instead of local time.
    pub logtime_utc: bool,
    /// File to log to; `None`: standard error.
    pub log_file: Option<PathBuf>,
    /// Bytes after which the log file is put aside and a new one begun; 0: never.
    pub log_size_limit: u64,
    /// Log files that are kept when one is put aside, the current one among them; 0: all.
    pub log_max_num: usize,
    /// What a log line looks like.
    pub log_format: LogFormat,
    /// Whether the log goes to the system's log.
    pub syslog: bool,
    /// Where the system's log is, as `udp://host:port` or `tcp://host:port`; empty: on this machine.
    pub remote_syslog: Option<String>,
    /// File to write the process id to.
    pub pid_file: Option<PathBuf>,
    /// Folder to write the file of addresses that are listened on to.
    pub ports_file_dir: Option<PathBuf>,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// As nats-server's.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            max_traced_msg_len: 0,
            logtime: true,
            logtime_utc: false,
            log_file: None,
            log_size_limit: 0,
            log_max_num: 0,
            log_format: LogFormat::Text,
            syslog: false,
            remote_syslog: None,
            pid_file: None,
            ports_file_dir: None,
        }
    }
}
