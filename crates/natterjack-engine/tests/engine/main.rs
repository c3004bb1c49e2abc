//! The engine through its public API: sessions fed with bytes, transports that remember what was written, and
//! a clock that moves when told.

mod access;
mod access_matrix;
mod backpressure;
mod conversation;
mod delivery;
mod exchange;
mod exchange_matrix;
mod harness;
mod mesh;
mod monitoring;
mod reconfiguration;
mod services;
mod system;
mod time;
