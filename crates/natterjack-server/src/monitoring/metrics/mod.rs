//! `/metrics`: numbers for Prometheus, and for whatever else reads its formats.
//!
//! What an exporter beside nats-server would make of the other pages is called what it calls it ([`exporter`]), so that
//! dashboards and alerts that exist go on working. What it does not know is called `natterjack_…` ([`own`]).

mod counted;
mod exporter;
mod own;
mod text;

use natterjack_engine::Engine;

use self::counted::Counted;
pub use self::text::{Exposition, ExpositionFormat, MetricKind};
use super::facts::{Load, ServerFacts};
use super::sources::Sources;

pub(super) fn metrics(
    facts: &ServerFacts,
    engine: &Engine,
    load: Load,
    is_accepting: bool,
    sources: &Sources,
    format: ExpositionFormat,
) -> String {
    let mut text = Exposition::new(format);
    let counted = Counted::of(engine);
    own::write(&mut text, facts, &counted, &load);
    exporter::write(&mut text, facts, engine, &counted, load, is_accepting);
    for source in sources.all() {
        source.write_metrics(&mut text);
    }
    text.finish()
}
