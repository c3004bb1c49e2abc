//! How a server is connected with others, as monitoring and embedders are told.

use super::Mesh;
use super::dial::SeedState;

/// How this server is connected, for monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSnapshot {
    /// The cluster's name.
    pub name: String,
    /// Whether it was made up.
    pub is_dynamic: bool,
    /// The peers, by their id.
    pub peers: Vec<PeerSnapshot>,
    /// What has become of the addresses and names in the configuration, in its order.
    pub seeds: Vec<SeedState>,
}

/// A server that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// New at every start.
    pub id: String,
    /// What its operator calls it.
    pub name: String,
    /// Numbers of the connections that share the accounts; `None` where one is missing.
    pub shared: Vec<Option<u64>>,
    /// Accounts that have a connection to themselves, and its number.
    pub dedicated: Vec<(String, u64)>,
    /// Whether this server keeps trying to be connected with it.
    pub is_explicit: bool,
}

impl Mesh {
    /// How this server is connected.
    #[must_use]
    pub fn snapshot(&self) -> MeshSnapshot {
        let state = self.state.lock();
        let peers = state.roster.peers().map(|(id, peer)| PeerSnapshot {
            id: id.to_string(),
            name: peer.name.clone(),
            shared: (peer.slots.iter())
                .map(|slot| slot.as_ref().map(|member| member.connection.id()))
                .collect(),
            dedicated: (peer.dedicated.iter())
                .map(|(account, member)| (account.to_string(), member.connection.id()))
                .collect(),
            is_explicit: state.plan.is_explicit(id),
        });
        MeshSnapshot {
            name: state.name.to_string(),
            is_dynamic: state.is_dynamic,
            peers: peers.collect(),
            seeds: (state.settings.seeds.iter())
                .map(|seed| state.plan.seed_state(seed))
                .collect(),
        }
    }
}
