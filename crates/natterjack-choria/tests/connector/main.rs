//! The connector against servers of ours, and against scripted ones where a server of ours would never do such a thing.

#![forbid(unsafe_code)]

mod federation;
mod life;
mod messages;
mod renewal;
mod scripted;
mod support;
mod trust;
