//! Which servers there are: whom to ask for them, and in which order they are tried.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::server::ServerAddress;

/// Servers that may be learnt from others. No cluster is that large; whoever says so means harm.
const LEARNT_MAX: usize = 1_000;

type Answer = Pin<Box<dyn Future<Output = Vec<ServerAddress>> + Send>>;

/// Whom to ask for servers. Asked before every round of attempts, so that an answer may be another one each time.
#[derive(Clone)]
pub struct Servers(Arc<dyn Fn() -> Answer + Send + Sync>);

impl Servers {
    /// Always these, in this order.
    #[must_use]
    pub fn fixed(servers: Vec<ServerAddress>) -> Self {
        Self::found(move || {
            let servers = servers.clone();
            async move { servers }
        })
    }

    /// Those that `find` finds, in the order in which they are to be tried. If it finds none, those of the last time are
    /// tried again.
    #[must_use]
    pub fn found<F, Found>(find: F) -> Self
    where
        F: Fn() -> Found + Send + Sync + 'static,
        Found: Future<Output = Vec<ServerAddress>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(find())))
    }

    pub(super) async fn ask(&self) -> Vec<ServerAddress> {
        (self.0)().await
    }
}

impl From<Vec<ServerAddress>> for Servers {
    fn from(servers: Vec<ServerAddress>) -> Self {
        Self::fixed(servers)
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Servers")
    }
}

/// Servers in the order in which they are tried, round and round.
#[derive(Debug, Default)]
pub(super) struct Pool {
    found: Vec<ServerAddress>,
    learnt: Vec<ServerAddress>,
    /// Of the one that is next; counted through both lists, and perhaps beyond.
    next: usize,
}

impl Pool {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.found.len() + self.learnt.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ServerAddress> {
        self.found.iter().chain(&self.learnt)
    }

    /// Takes what was found now. The first of other ones than before is next.
    pub(super) fn replace(&mut self, found: Vec<ServerAddress>) {
        if found.is_empty() || found == self.found {
            return;
        }
        self.learnt.retain(|learnt| !found.contains(learnt));
        self.found = found;
        self.next = 0;
    }

    /// Takes what a server says of its cluster instead of what was said before, and answers what of that is new. One that
    /// says nothing changes nothing.
    pub(super) fn learn(&mut self, said: &[String]) -> Vec<ServerAddress> {
        if said.is_empty() {
            return Vec::new();
        }
        let before = std::mem::take(&mut self.learnt);
        let mut new = Vec::new();
        for text in said {
            let Ok(server) = text.parse::<ServerAddress>() else {
                tracing::debug!(address = %text, "a server names another one by an address that is none");
                continue;
            };
            let is_known = self.all().any(|known| *known == server);
            if !is_known && self.learnt.len() < LEARNT_MAX {
                if !before.contains(&server) {
                    new.push(server.clone());
                }
                self.learnt.push(server);
            }
        }
        new
    }

    /// The next one, if there is any.
    pub(super) fn take(&mut self) -> Option<ServerAddress> {
        let count = self.len();
        if count == 0 {
            return None;
        }
        let index = self.next % count;
        self.next = index + 1;
        self.all().nth(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<ServerAddress> {
        text.split(' ')
            .map(|server| server.parse().unwrap())
            .collect()
    }

    fn taken(pool: &mut Pool, count: usize) -> String {
        let names = (0..count).map(|_| pool.take().unwrap().host);
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_after_the_other() {
        let mut pool = Pool::default();
        assert_eq!(pool.take(), None);
        pool.replace(servers("a:1 b:1"));
        assert_eq!(taken(&mut pool, 3), "a b a");
        pool.replace(servers("a:1 b:1"));
        assert_eq!(taken(&mut pool, 2), "b a", "nothing new");
        pool.replace(Vec::new());
        assert_eq!(taken(&mut pool, 2), "b a", "nothing found");
        pool.replace(servers("c:1 a:1"));
        assert_eq!(taken(&mut pool, 2), "c a");
    }

    #[test]
    fn what_servers_say_of_others() {
        let mut pool = Pool::default();
        pool.replace(servers("a:1"));
        let said = ["a:1", "10.0.0.1:4222", "[::1]:4222", "x", "", "b:0"].map(String::from);
        assert_eq!(pool.learn(&said), servers("10.0.0.1:4222 [::1]:4222"));
        assert_eq!(pool.learn(&said), []);
        assert_eq!(taken(&mut pool, 4), "a 10.0.0.1 ::1 a");
        assert_eq!(pool.learn(&[]), [], "it does not say");
        assert_eq!(pool.len(), 3);
        pool.replace(servers("10.0.0.1:4222 b:1"));
        assert_eq!(taken(&mut pool, 3), "10.0.0.1 b ::1");
        let many: Vec<_> = (1..=2 * LEARNT_MAX)
            .map(|port| format!("many:{port}"))
            .collect();
        pool.learn(&many);
        assert_eq!(pool.len(), 2 + LEARNT_MAX);
        // Who has left the cluster is tried no more.
        let now = ["many:7", "c:1"].map(String::from);
        assert_eq!(pool.learn(&now), servers("c:1"));
        assert_eq!(pool.len(), 4);
    }
}
