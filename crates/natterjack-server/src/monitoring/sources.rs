//! What other parts of the process add to a server's monitoring.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::metrics::Exposition;

/// Something else in the process that a server's monitoring shows as well. It is asked for each request, and must not block.
pub trait MonitoringSource: Send + Sync + 'static {
    /// Adds numbers to `/metrics`.
    fn write_metrics(&self, exposition: &mut Exposition);

    /// The name of its own page of JSON, without a slash, if it has one. The live page shows it too. Names of pages that there
    /// are anyway go first.
    fn page_name(&self) -> Option<&'static str> {
        None
    }

    /// What is on that page.
    fn page(&self) -> Value {
        Value::Null
    }
}

/// All of them, in the order in which they came.
#[derive(Default)]
pub(super) struct Sources(RwLock<Vec<Arc<dyn MonitoringSource>>>);

impl Sources {
    pub(super) fn add(&self, source: Arc<dyn MonitoringSource>) {
        self.0.write().push(source);
    }

    /// A copy, so that nothing is held while they are asked.
    pub(super) fn all(&self) -> Vec<Arc<dyn MonitoringSource>> {
        self.0.read().clone()
    }

    /// The page of that name.
    pub(super) fn page(&self, name: &str) -> Option<Value> {
        let mut sources = self.all().into_iter();
        let source = sources.find(|source| source.page_name() == Some(name))?;
        Some(source.page())
    }

    /// The name of the first page there is.
    pub(super) fn page_name(&self) -> Option<&'static str> {
        self.all().iter().find_map(|source| source.page_name())
    }
}
