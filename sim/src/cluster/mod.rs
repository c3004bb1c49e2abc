//! Some servers of a cluster on a virtual clock, with their clients and a network that breaks, from one seed.
//!
//! [`run`] plays a [`Scenario`] as [`crate::run`] does for one server. A game has rounds. In each, everybody first does
//! as they like while connections break, freeze and go silent, servers cannot reach each other, die and come back. Then
//! all is left alone, and the cluster must become whole by itself; then what each server knows of its peers' interest is
//! compared with what there is, and everybody publishes and asks, and everything must arrive. What may never happen
//! (a message twice, in another account, out of order) is looked for all the time. Servers are reloaded meanwhile, with
//! other permissions, other pools and other accounts that have connections to themselves, or without some of their accounts
//! for a time, and go as lame ducks do. In some games one account offers a service to another one.
//!
//! Suggested reading: `scenario`, `game` (the rounds), `world` (servers, tasks, dialling, what goes wrong), `link`,
//! `client`, `ledger` (what must hold of messages), `reach` (between whom).

mod scenario;

mod client;
mod event;
mod game;
mod ledger;
mod link;
mod reach;
mod world;

pub use game::{Report, run};
pub use scenario::{Faults, Reloads, Scenario};
