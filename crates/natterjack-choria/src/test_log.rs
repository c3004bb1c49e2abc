//! What the log hears of the thread of a test.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry;

/// Hears as long as it lives.
pub(crate) struct TestLog {
    text: Arc<Mutex<String>>,
    _other: Dispatch,
    _guard: DefaultGuard,
}

impl TestLog {
    pub(crate) fn start() -> Self {
        let text = Arc::default();
        let lines = Lines(Arc::clone(&text));
        Self {
            text,
            // With one subscriber alone, what another test's thread comes by first is taken for wanted by nobody.
            _other: Dispatch::new(registry()),
            _guard: tracing::subscriber::set_default(registry().with(lines)),
        }
    }

    /// Lines of a level, the message, and fields with their names.
    pub(crate) fn text(&self) -> String {
        self.text.lock().clone()
    }
}

struct Lines(Arc<Mutex<String>>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Line(&mut line));
        let mut log = self.0.lock();
        log.push_str(&line);
        log.push('\n');
    }
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
