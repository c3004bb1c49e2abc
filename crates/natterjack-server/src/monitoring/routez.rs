//! `/routez`: connections to the other servers of the cluster.

use serde::Serialize;

use super::facts::ServerFacts;
use super::format::Time;

/// Connections to the other servers of the cluster. There are none yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Routez {
    /// The server's id.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// When this was written.
    pub now: Time,
    /// Routes there are.
    pub num_routes: usize,
    /// The routes.
    pub routes: Vec<Route>,
}

/// One route. No value of it can be made until there are routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Route {}

pub(crate) fn routez(facts: &ServerFacts) -> Routez {
    Routez {
        server_id: facts.info.server_id.clone(),
        server_name: facts.info.server_name.clone(),
        now: facts.time_of(facts.now),
        num_routes: 0,
        routes: Vec::new(),
    }
}
