//! What the server itself has to do with its clients: what it reports to whoever runs it, and its own connection.
//!
//! The engine knows no event and no page. It [reports](Report) what happens, into a queue that is never waited for, and
//! hands out messages to the few subjects on which every account can ask the server something. [`SystemConnection`] is
//! how the shell publishes and listens in the system account, and answers in any.

mod connection;
mod reports;
mod services;

pub use connection::{SystemConnection, SystemMessage};
pub(crate) use reports::Reports;
pub use reports::{REPORT_BYTES_MAX, REPORTS_MAX, Report};
pub use services::{Service, ServiceRequest};
