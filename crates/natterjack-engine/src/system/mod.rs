//! What the server itself has to do with its clients: what it reports to whoever runs it, and its own connection.
//!
//! The engine knows no event and no page. It [reports](Report) what happens, into a queue that is never waited for.
//! [`SystemConnection`] is how the shell publishes and listens in the system account. What clients of other accounts may
//! ask the server comes there like any request for a service of another account.

mod connection;
mod reports;

pub use connection::{SystemConnection, SystemMessage};
pub(crate) use reports::Reports;
pub use reports::{
    DroppedReports, REPORT_BYTES_MAX, REPORTS_MAX, Report, TRACE_BYTES_MAX, TRACES_MAX,
};
