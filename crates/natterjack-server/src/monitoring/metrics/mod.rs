//! `/metrics`: numbers for Prometheus, and for whatever else reads its formats.
//!
//! What an exporter beside nats-server would make of the other pages is called what it calls it ([`exporter`]), so that
//! dashboards and alerts that exist go on working. What it does not know is called `natterjack_…` ([`own`]).

mod exporter;
mod own;
mod text;

use std::sync::Arc;

use natterjack_engine::Engine;
use parking_lot::RwLock;

pub use self::text::{Exposition, ExpositionFormat, MetricKind};
use super::facts::{Load, ServerFacts};

/// Numbers that something else in the process adds to a server's `/metrics`.
pub trait MetricsSource: Send + Sync + 'static {
    /// Writes them. Called for each request; it must not block.
    fn write(&self, exposition: &mut Exposition);
}

/// What other parts of the process add.
#[derive(Default)]
pub(super) struct MetricsSources(RwLock<Vec<Arc<dyn MetricsSource>>>);

impl MetricsSources {
    pub(super) fn add(&self, source: Arc<dyn MetricsSource>) {
        self.0.write().push(source);
    }
}

pub(super) fn metrics(
    facts: &ServerFacts,
    engine: &Engine,
    load: Load,
    is_accepting: bool,
    sources: &MetricsSources,
    format: ExpositionFormat,
) -> String {
    let mut text = Exposition::new(format);
    own::write(&mut text, facts, engine, &load);
    exporter::write(&mut text, facts, engine, load, is_accepting);
    let sources = sources.0.read().clone();
    for source in sources {
        source.write(&mut text);
    }
    text.finish()
}
