//! The event bus as its users see it, over every transport.
//!
//! `contract` holds what every transport promises and runs over each; the other files hold what only `nats` can do.
//! The server is the embedded one. To run the same tests against another server, name it:
//! `NATTERJACK_TEST_URL=nats://127.0.0.1:4222 cargo test -p natterjack-bus`.

#[macro_use]
mod contract;
mod asking;
mod conditions;
mod drain;
mod health;
mod killed;
mod link;
mod merging;
mod reload;
mod scripted;
mod subscriptions;
mod tls;
mod topology;
mod types;
mod wire;
mod world;
