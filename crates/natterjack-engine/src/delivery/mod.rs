//! A message's way from its publisher's batch to its subscribers' sockets.
//!
//! Suggested reading: [`run`] (what is collected), [`worker`] (how it is delivered), [`rendering`] (into which
//! bytes), [`outbox`] (who writes them), [`queue`], [`segments`] and [`transport`] (what waits, where, and how it is written), [`cache`] and [`subscription`] (how the receivers are known).

pub(crate) mod run;
pub(crate) mod worker;

pub(crate) mod cache;
pub(crate) mod outbox;
pub(crate) mod queue;
pub(crate) mod receivers;
pub(crate) mod rendering;
pub(crate) mod restrictions;
pub(crate) mod segments;
mod sorting;
pub(crate) mod subscription;
mod traced;
pub(crate) mod transport;

pub(crate) use subscription::Subscriber;
