//! OpenTelemetry (feature `opentelemetry`): a span for each event that is published, one for each that a program says it
//! processes, one for each question and for each time that it is answered, and the W3C text that ties them together. Spans go
//! to the provider that the bus was given, or else to the process's; this sets none. Attributes are those of the semantic
//! conventions for messaging.

use std::sync::{Arc, OnceLock};

use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use uuid::Uuid;

use crate::envelope::{Draft, Envelope};
use crate::error::{AskError, PublishError};
use crate::event::Event;
use crate::settings::{Settings, TransportKind};
use crate::trace::{PARENT, STATE, Trace};
use crate::transport::{Channel, channel_subject};

/// Makes the spans of one bus.
pub(crate) struct Spans {
    given: OnceLock<BoxedTracer>,
    /// `messaging.system`.
    system: &'static str,
    /// `messaging.destination.name`: the subject.
    destination: Arc<str>,
    /// The same for questions.
    questions: Arc<str>,
    /// `messaging.client.id`: the node.
    client: Arc<str>,
}

impl Spans {
    pub(crate) fn new(settings: &Settings) -> Self {
        let client = &settings.nats.client;
        Self {
            given: OnceLock::new(),
            system: match settings.transport {
                // Nothing leaves the process.
                TransportKind::Local => "natterjack",
                TransportKind::Nats => "nats",
            },
            destination: client.subject.as_str().into(),
            questions: channel_subject(&client.subject, Channel::Ask).into(),
            client: client.name.as_str().into(),
        }
    }

    /// Answers whether it is the first.
    pub(crate) fn give<P, T, S>(&self, provider: &P) -> bool
    where
        P: TracerProvider<Tracer = T>,
        T: Tracer<Span = S> + Send + Sync + 'static,
        S: Span + Send + Sync + 'static,
    {
        let tracer = BoxedTracer::new(Box::new(provider.tracer_with_scope(scope())));
        self.given.set(tracer).is_ok()
    }

    /// Begins the span of an event that is about to be published, and writes it into the event. Its parent is the span
    /// around, or else what the draft names; what was merged of several begins a trace of its own, with links to the spans
    /// around those. Where nobody collects spans the parent is what is written.
    pub(crate) fn publishing(&self, draft: &mut Draft) -> Publishing {
        let mut builder = self.builder(
            &self.destination,
            "publish",
            "send",
            SpanKind::Producer,
            Some(draft.payload.len()),
        );
        let mut parent = match &draft.origins[..] {
            [] => Context::current(),
            [only] => Context::new().with_remote_span_context(only.clone()),
            several => {
                let links = several.iter().cloned().map(Link::with_context);
                builder = builder.with_links(links.collect());
                Context::new()
            }
        };
        if !parent.span().span_context().is_valid()
            && draft.origins.is_empty()
            && let Some(named) = draft_context(draft)
        {
            parent = parent.with_remote_span_context(named);
        }
        let span = self.build(builder, &parent);
        inject(span.span_context(), draft);
        Publishing(span)
    }

    /// Begins the span of a question that is about to be sent, below the span around, and a draft that it is written into.
    pub(crate) fn asking(&self, body_bytes: usize) -> (Draft, Asking) {
        let builder = self.builder(
            &self.questions,
            "ask",
            "send",
            SpanKind::Client,
            Some(body_bytes),
        );
        let span = self.build(builder, &Context::current());
        let mut draft = Draft::default();
        inject(span.span_context(), &mut draft);
        (draft, Asking(Context::new().with_span(span)))
    }

    /// Begins the span of a question that is answered, below that of who asks.
    pub(crate) fn answering(&self, question: &Envelope) -> Context {
        let named = context_of(question.attributes.trace.as_ref(), |name| {
            question.attributes.others.get(name).map(String::as_str)
        });
        let parent = match named {
            Some(context) => Context::new().with_remote_span_context(context),
            None => Context::new(),
        };
        let builder = self.builder(
            &self.questions,
            "answer",
            "process",
            SpanKind::Server,
            Some(question.payload.len()),
        );
        let mut span = self.build(builder, &parent);
        if span.is_recording() {
            span.set_attribute(message_id(question.attributes.id.clone()));
        }
        Context::current().with_span(span)
    }

    /// Begins the span of an event that is processed, below that of its publisher.
    pub(crate) fn processing<T>(&self, event: &Event<T>) -> Context {
        let parent = event.trace_context();
        let builder = self.builder(
            &self.destination,
            "process",
            "process",
            SpanKind::Consumer,
            event.body_bytes,
        );
        let mut span = self.build(builder, &parent);
        if span.is_recording() {
            span.set_attribute(message_id(event.id.clone()));
        }
        Context::current().with_span(span)
    }

    fn builder(
        &self,
        destination: &Arc<str>,
        operation: &'static str,
        operation_type: &'static str,
        kind: SpanKind,
        body_bytes: Option<usize>,
    ) -> SpanBuilder {
        let body_size = body_bytes.and_then(|bytes| i64::try_from(bytes).ok());
        let mut attributes = vec![
            KeyValue::new("messaging.system", self.system),
            KeyValue::new("messaging.destination.name", Arc::clone(destination)),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.operation.type", operation_type),
            KeyValue::new("messaging.client.id", Arc::clone(&self.client)),
        ];
        attributes.extend(body_size.map(|size| KeyValue::new("messaging.message.body.size", size)));
        SpanBuilder::from_name(format!("{operation} {destination}"))
            .with_kind(kind)
            .with_attributes(attributes)
    }

    fn build(&self, builder: SpanBuilder, parent: &Context) -> BoxedSpan {
        match self.given.get() {
            Some(tracer) => tracer.build_with_context(builder, parent),
            // Anew each time: it may be set after the bus has started.
            None => global::tracer_with_scope(scope()).build_with_context(builder, parent),
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

fn message_id(id: String) -> KeyValue {
    KeyValue::new("messaging.message.id", id)
}

/// The span of an event on its way out. Ends with this, also where nobody waits for the result.
pub(crate) struct Publishing(BoxedSpan);

impl Publishing {
    pub(crate) fn end(mut self, result: &Result<Uuid, PublishError>) {
        if !self.0.is_recording() {
            return;
        }
        match result {
            Ok(id) => self.0.set_attribute(message_id(id.to_string())),
            Err(error) => self.0.set_status(Status::error(error.to_string())),
        }
        self.0.end();
    }
}

/// The span of a question, until it is answered, or nobody waits for answers any more.
pub(crate) struct Asking(Context);

impl Asking {
    /// Which question it is.
    pub(crate) fn asked(&self, id: &str) {
        let span = self.0.span();
        if span.is_recording() {
            span.set_attribute(message_id(id.into()));
        }
    }

    pub(crate) fn failed(&self, error: &AskError) {
        self.0.span().set_status(Status::error(error.to_string()));
    }
}

/// The span around, if there is one.
pub(crate) fn around() -> Option<SpanContext> {
    let context = Context::current();
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The last step is beside the event, the first one stays what it is (CloudEvents, extension "Distributed Tracing").
fn inject(context: &SpanContext, draft: &mut Draft) {
    if !context.is_valid() {
        return;
    }
    let Some(trace) = written(context) else {
        return;
    };
    if !draft.others.contains_key(PARENT) {
        // It belongs to a parent that is not there.
        draft.others.remove(STATE);
        let attributes = trace.entries();
        let attributes = attributes.map(|(name, value)| (name.to_string(), value.to_string()));
        draft.others.extend(attributes);
    }
    draft.trace = Some(trace);
}

fn draft_context(draft: &Draft) -> Option<SpanContext> {
    context_of(draft.trace.as_ref(), |name| {
        draft.others.get(name).map(String::as_str)
    })
}

/// The last step, or if that is not told the first.
fn context_of<'a>(
    trace: Option<&Trace>,
    attribute: impl Fn(&'static str) -> Option<&'a str>,
) -> Option<SpanContext> {
    let last = trace.and_then(|trace| read(trace.parent(), trace.state()));
    last.or_else(|| read(attribute(PARENT)?, attribute(STATE)))
}

fn written(context: &SpanContext) -> Option<Trace> {
    let parent = format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags() & TraceFlags::SAMPLED
    );
    Trace::new(parent, context.trace_state().header())
}

/// W3C Trace Context, level 1, section 3.2: `version-trace-parent-flags`, in lower-case hexadecimal digits. Later versions may have
/// more behind that. A state that cannot be read is left out.
fn read(parent: &str, state: Option<&str>) -> Option<SpanContext> {
    const VERSION_ZERO: u8 = 0;
    const VERSION_FORBIDDEN: u8 = 0xff;
    /// Dashes excluded.
    const LENGTHS: [usize; 4] = [2, 32, 16, 2];
    let mut fields = parent.split('-');
    let mut field = |length: usize| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (fields.next()).filter(|field| field.len() == length && field.bytes().all(is_digit))
    };
    let [version, trace, span, flags] = LENGTHS.map(&mut field);
    let version = u8::from_str_radix(version?, 16).ok()?;
    if version == VERSION_FORBIDDEN || (version == VERSION_ZERO && fields.next().is_some()) {
        return None;
    }
    let flags = u8::from_str_radix(flags?, 16).ok()?;
    let context = SpanContext::new(
        TraceId::from_hex(trace?).ok()?,
        SpanId::from_hex(span?).ok()?,
        // Others have no meaning yet, and are not passed on.
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
        true,
        state
            .and_then(|state| state.parse::<TraceState>().ok())
            .unwrap_or_default(),
    );
    // All zeros are no identifier.
    context.is_valid().then_some(context)
}

impl<T> Event<T> {
    /// The span that published this event, to be the parent of what is done about it; an empty context if none is told, or not
    /// in a form that can be read. See [`crate::EventBus::consumer_span`].
    #[must_use]
    pub fn trace_context(&self) -> Context {
        let named = context_of(self.trace.as_ref(), |name| {
            self.others.get(name).map(String::as_str)
        });
        match named {
            Some(context) => Context::new().with_remote_span_context(context),
            None => Context::new(),
        }
    }
}
