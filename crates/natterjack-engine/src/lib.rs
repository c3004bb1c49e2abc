//! What a NATS server decides: sessions, delivery, credentials, limits. Without sockets, clock or runtime.
//!
//! An [`Engine`] is shared by all connections of one server. For each connection the shell holds a
//! [`ClientSession`], lends it a [`Worker`] whenever it has bytes for it, and gives it a [`Transport`] through
//! which any thread may write to the peer without waiting. Time is an argument everywhere; chance comes from
//! one seed. The same engine therefore runs under a real server and under a simulation.
//!
//! A message's way is one call: [`ClientSession::handle_read`] decodes the batch in place, collects messages
//! with the same receivers into runs, delivers each run to each receiver's [`Outbox`], and flushes every outbox
//! it touched.
#![forbid(unsafe_code)]

mod engine;

pub mod access;
mod account;
mod certificate_names;
mod close_reason;
mod config;
mod delivery;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod log_limit;
mod mesh;
mod monitor;
mod session;
mod system;
mod trace;

pub use access::{
    Access, AccessProblem, AccountAccess, AccountLimits, ConnectionType, Credential, Destination,
    Login, Mapping, MappingProblem, PasswordCheck, Permissions, ResponseLimit, Secret,
    SubjectRules, User,
};
pub use account::{Account, GLOBAL_ACCOUNT, SYSTEM_ACCOUNT};
pub use certificate_names::{CertificateNames, SubjectAttribute};
pub use close_reason::CloseReason;
pub use config::{Adaptation, Reconfiguration};
pub use delivery::outbox::{Outbox, Status};
pub use delivery::transport::Transport;
pub use delivery::worker::Worker;
pub use engine::{Direction, Engine, Nonce, Peer, RoutePeer, Settings, Trust};
pub use exchange::{
    Headers, LatencyOutcome, LatencyReport, Measure, RemoteMeasure, TransformProblem,
};
pub use limits::{
    CLOSE_STEP_SUBSCRIPTIONS, Limits, READ_BYTES_MAX, STALL_MAX, UNRESPONSIVE_AFTER, WriteTimeout,
};
pub use mesh::dial::{Dial, DialId, SeedState, Target};
pub use mesh::settings::{ClusterLimits, ClusterLogin, ClusterSettings, Seed};
pub use mesh::{Mesh, MeshSnapshot, PeerSnapshot};
pub use monitor::{
    AccountSnapshot, ByKind, ClientFacts, ConnectionKind, ConnectionSnapshot, IndexCounters,
    PeerCertificate, PeerInterestSnapshot, RouteFacts, RouteSnapshot, Stop, SubscriptionFilter,
    SubscriptionSnapshot, TlsFacts, Totals, Traffic,
};
pub use natterjack_subject::{is_valid_pattern, is_valid_publish_subject};
pub use natterjack_wire::client::ServerInfo;
pub use natterjack_wire::route::Compression;
pub use session::client::{ClientSession, Label};
pub use session::route::RouteSession;
pub use session::{Session, Step};
pub use system::{
    DroppedReports, REPORT_BYTES_MAX, REPORTS_MAX, Report, SystemConnection, SystemMessage,
    TRACE_BYTES_MAX, TRACES_MAX,
};
pub use trace::{TraceEvent, TraceReport, TracedKind, Undelivered};
