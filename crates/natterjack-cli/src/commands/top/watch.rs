//! The course of asking: all who can be asked are asked at the same time, none of them twice, and what they say is put into
//! the state as it comes.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::source::{Discovery, Found, Heard, Source, Wanted};
use super::state::State;

/// Rounds in which members of a cluster may be found one after the other, before anything is printed.
const DISCOVERY_ROUNDS_MAX: usize = 8;

pub(super) struct Watch {
    pub(super) state: State,
    /// Those that are not being asked just now.
    idle: Vec<Source>,
    open: FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>,
    discovery: Option<Discovery>,
}

/// A question that has come to its end.
pub(super) struct Done {
    at: Instant,
    what: What,
}

enum What {
    Asked(Source, Vec<Heard>),
    LookedFor(Found),
}

impl Watch {
    pub(super) fn new(state: State, sources: Vec<Source>, discovery: Option<Discovery>) -> Self {
        Self {
            state,
            idle: sources,
            open: FuturesUnordered::new(),
            discovery,
        }
    }

    /// Asks everybody who has answered the question before.
    pub(super) fn ask(&mut self, wanted: &Wanted) {
        for source in self.idle.drain(..) {
            let asking = source.ask(wanted.clone());
            self.open.push(Box::pin(async move {
                let (source, heard) = asking.await;
                Done {
                    at: now(),
                    what: What::Asked(source, heard),
                }
            }));
        }
        self.look_for_others();
    }

    /// Looks for members that are known since; returns how many.
    fn look_for_others(&mut self) -> usize {
        let Some(discovery) = &mut self.discovery else {
            return 0;
        };
        Discovery::forget(&mut self.state);
        let questions = discovery.round(&self.state);
        let count = questions.len();
        for looking in questions {
            self.open.push(Box::pin(async move {
                let found = looking.await;
                Done {
                    at: now(),
                    what: What::LookedFor(found),
                }
            }));
        }
        count
    }

    /// Whether nobody is being asked.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Waits for the end of a question; for ever if there is none.
    pub(super) async fn next(&mut self) -> Done {
        match self.open.next().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// Takes what a question brought.
    pub(super) fn take(&mut self, done: Done) {
        match done.what {
            What::Asked(source, heard) => {
                for heard in heard {
                    match heard {
                        Heard::Server { address, said } => {
                            self.state
                                .hear(&address, done.at, said.map(|sample| *sample));
                        }
                        Heard::Nothing(problem) => self.state.fail(problem, done.at),
                    }
                }
                self.idle.push(source);
            }
            What::LookedFor(found) => {
                if let Some(discovery) = &mut self.discovery {
                    let source = discovery.conclude(found, &mut self.state);
                    self.idle.extend(source);
                }
            }
        }
        if self.open.is_empty() {
            self.state.record();
        }
    }

    /// Asks everybody once, those too that are found by it, and waits for all of them.
    pub(super) async fn round(&mut self, wanted: &Wanted) {
        self.ask(wanted);
        for _ in 0..DISCOVERY_ROUNDS_MAX {
            let before = self.idle.len();
            while !self.is_idle() {
                let done = self.next().await;
                self.take(done);
            }
            if self.look_for_others() == 0 {
                return;
            }
            while !self.is_idle() {
                let done = self.next().await;
                self.take(done);
            }
            if self.idle.len() == before {
                return;
            }
            self.ask(wanted);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
