//! An embeddable NATS server.
//!
//! ```
//! use natterjack_server::{Options, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::start(Options { port: 0, ..Options::default() }).await?;
//! println!("clients connect to {}", server.client_url());
//!
//! let client = server.in_process_client()?;
//! let mut greetings = client.subscribe("greet.*").await?;
//! client.publish("greet.joe", "hello").await?;
//! let message = greetings.next().await.expect("the server is running");
//! assert_eq!(&message.payload[..], b"hello");
//!
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The library touches no signal, no global, no standard stream, and never ends the process. Any number of
//! servers live side by side in one process, each on the runtime that started it. Logs go to `tracing`, and
//! never contain payloads or secrets.
#![forbid(unsafe_code)]

pub mod configuration;
mod options;
mod server;

mod clock;
mod cluster;
mod identity;
mod in_process;
mod lifecycle;
mod long_work;
pub mod monitoring;
mod net;
mod percent;
mod reload;
mod system;
pub mod tls;
mod workers;

pub use in_process::{
    ClientError, InProcessClient, InProcessConnection, Listener, Message, MessageHeaders,
    MessageView, Subscription,
};
pub use natterjack_dns::BadServiceName;
pub use natterjack_engine::{Access, MeshSnapshot, PeerSnapshot, SeedState, access};
pub use options::{
    Cluster, Compression, Endpoint, HandshakeFirst, InvalidOption, KeyPairFiles, Monitoring,
    Options, RouteUrl, Tls, TlsVersion, TokenProblem, WriteTimeout,
};
pub use reload::ReloadError;
pub use server::{Listeners, Server, StartError};
