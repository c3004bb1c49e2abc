//! `natterjack bus`: standard input to the event bus, the event bus to standard output.

mod event_line;
pub(crate) mod given;
mod input;
mod reload;
mod status;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use natterjack_bus::settings::{Endpoint, Loaded, Problem, Settings, TransportKind};
use natterjack_bus::{
    DrainError, EventBus, EventStream, Fault, FaultStream, Link, Publish, PublishError,
    Subscription,
};
use natterjack_cli::open_files;
use natterjack_cli::service_manager::Notifier;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

use crate::log_level::LogLevel;
use crate::output::{Failed, Output, note, say};
use crate::signals::Stop;
use given::Given;
use input::{Line, Lines};

/// Own events published and not yet written out. It is well below what the bus queues, so a slow reader of our output
/// slows the input down instead of overflowing the bus.
const WINDOW_EVENTS: u64 = 1024;

/// How long to wait for a server before saying that we do.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long, after that, to wait for other nodes' answers before saying whose.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(5);

/// The option about which a bus that dials warns by itself.
const SKIP_VERIFY: &str = "eventBus.nats.tls.tlsSkipVerify";

/// How long stopping the embedded server and the output may take after the drain.
const STOP_EXTRA: Duration = Duration::from_secs(10);

/// Run an event bus: publish each line of input, print each event as a line
#[derive(clap::Args)]
#[command(
    after_help = "Each line of standard input is one JSON value and becomes one event. Each event on the bus, \
    from here or elsewhere, is written to standard output as one line: a CloudEvent 1.0 in JSON. A line that cannot be \
    published is reported on standard error and skipped. The exit code is 0 if every line was published and no \
    event was lost, and otherwise 1.\n\n\
    SIGTERM and SIGINT drain: what was accepted is delivered first. So does SIGHUP on a terminal. Elsewhere it has the \
    settings read again: routes, what is advertised, and files of TLS are taken over, and what needs another start is \
    named.\n\n\
    Examples:\n  \
    echo '{\"hello\": \"world\"}' | natterjack bus --config examples/single-node.yaml --exit-on-eof\n  \
    natterjack bus --event-bus-type nats --nats-server-enable\n  \
    natterjack bus --config examples/single-node.yaml --status\n  \
    natterjack check --bus examples/single-node.yaml --explain"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    given: Given,
    /// End at the end of input, once everything was published and delivered
    #[arg(long)]
    exit_on_eof: bool,
    /// Do not run a bus: ask the one that runs with these settings, print how all its nodes are, and end. The exit code is
    /// 0 if this node is ready and healthy, and otherwise 1
    #[arg(long, conflicts_with = "exit_on_eof")]
    status: bool,
    /// How to print it
    #[arg(long, requires = "status", value_enum, default_value_t = status::Format::Text, value_name = "FORMAT")]
    format: status::Format,
    /// CloudEvents type of the published events
    #[arg(
        long = "type",
        value_name = "TYPE",
        default_value = "natterjack.event",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    event_type: String,
    /// Routing key of the published events: subscribers may ask for those of some keys alone
    #[arg(long, value_name = "KEY", conflicts_with = "status")]
    key: Option<String>,
    /// Print events with this routing key alone; may be repeated
    #[arg(long, value_name = "KEY", conflicts_with = "status")]
    only_key: Vec<String>,
    /// What to log to standard error: problems, also the embedded server's course, also its clients and our own client
    /// library, or also every protocol operation (without payloads)
    #[arg(long, value_enum, default_value_t = LogLevel::Warn, value_name = "LEVEL")]
    log: LogLevel,
}

/// Events are passed on as they are written: numbers keep their digits, objects the order of their keys.
type Bus = EventBus<Box<RawValue>>;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut settings = match arguments.given.load() {
        Ok(Loaded {
            settings, warnings, ..
        }) => {
            // Whoever dials says that one at each start.
            let endpoint = &settings.nats.client.endpoint;
            let dials =
                !arguments.status && !endpoint.as_ref().is_some_and(Endpoint::is_in_process);
            let is_said = |warning: &&Problem| !dials || warning.option != SKIP_VERIFY;
            warnings
                .iter()
                .filter(is_said)
                .for_each(|warning| note(format_args!("{warning}")));
            settings
        }
        Err(problems) => {
            problems
                .0
                .iter()
                .for_each(|problem| note(format_args!("{problem}")));
            return Ok(ExitCode::FAILURE);
        }
    };
    if arguments.status {
        return status::run(&settings, arguments.format).await;
    }
    settings.nats.client.event_type = arguments.event_type;
    let _log = arguments.log.start()?;
    open_files::raise_limit();
    let mut stop = Stop::watch()?;
    let mut reloads = None;
    if is_on_terminal() {
        stop = stop.and_hangup()?;
    } else {
        reloads = Some(reload::requests()?);
    }

    let bus = tokio::select! {
        bus = Bus::start(settings.clone()) => bus.context("cannot start the event bus")?,
        // Nothing has been read yet.
        () = stop.signalled() => return Ok(ExitCode::SUCCESS),
    };
    let bus = Arc::new(bus);
    let manager = Arc::new(Notifier::from_environment());
    let telling = tokio::spawn(tell(Arc::clone(&manager), Arc::clone(&bus)));
    let reloading = reloads
        .map(|requests| tokio::spawn(reload::run(requests, arguments.given, Arc::clone(&bus))));
    let flow = Arc::new(Flow::default());
    let Arguments { key, only_key, .. } = arguments;
    let prints_own = only_key.is_empty() || key.as_ref().is_some_and(|key| only_key.contains(key));
    let wanted = only_key
        .into_iter()
        .fold(bus.subscription(), Subscription::key);
    let printer = tokio::spawn(print_events(
        wanted.start(),
        Output::start(),
        Arc::clone(&flow),
    ));
    let faults = tokio::spawn(print_faults(bus.faults(), Arc::clone(&flow)));
    tokio::pin!(printer);

    let (stopping, stopped) = watch::channel(false);
    let feeder = Feeder {
        bus: Arc::clone(&bus),
        flow,
        key,
        prints_own,
        stopped,
        bad_lines: 0,
        published: 0,
    };
    let feed = feeder.run(&settings);
    tokio::pin!(feed);
    let mut printed = None;
    let mut is_told_to_stop = false;
    let fed = loop {
        tokio::select! {
            fed = &mut feed => break fed,
            () = stop.signalled() => {
                is_told_to_stop = true;
                stopping.send_replace(true)
            }
            result = &mut printer, if printed.is_none() => {
                printed = Some(result);
                stopping.send_replace(true)
            }
        };
    };
    if fed.at_end && !arguments.exit_on_eof && printed.is_none() {
        tokio::select! {
            () = stop.signalled() => is_told_to_stop = true,
            result = &mut printer => printed = Some(result),
        }
    }

    telling.abort();
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    manager.stopping("Draining", settings.limits.drain_timeout + STOP_EXTRA);
    // A second signal ends this at once, in the middle of whatever does not want to end.
    let ending = async {
        let drained = drain(&bus, settings.limits.drain_timeout).await;
        let printed = match printed {
            Some(printed) => printed,
            None => printer.await,
        };
        let _ = faults.await;
        (drained, printed)
    };
    let insisted = async {
        if is_told_to_stop {
            stop.signalled_again().await;
        } else {
            stop.signalled().await;
        }
    };
    let (drained, printed) = tokio::select! {
        result = ending => result,
        () = insisted => {
            if let Some(which) = which(&bus.undelivered_ids()) {
                note(format_args!("not delivered, as far as the server has confirmed; {which}"));
            }
            anyhow::bail!("interrupted before everything was delivered")
        }
    };
    let stats = bus.stats();
    let failed = fed.bad_lines > 0
        || stats.lost_events > 0
        || stats.overflowed_events > 0
        || drained.is_err();
    if let Err(error) = drained {
        note(format_args!("{error}"));
        if let Some(which) = which(error.ids()) {
            note(format_args!("{which}"));
        }
    }
    match printed.context("the output task failed")? {
        Err(Failed(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Ends the bus. What is still open then may take long, if there is no server, so this says what it waits for: at once
/// without a connection, and else when it is no longer a matter of moments.
async fn drain(bus: &Bus, timeout: Duration) -> Result<(), DrainError> {
    let draining = bus.drain();
    tokio::pin!(draining);
    if bus.link() == Link::Connected
        && let Ok(drained) = tokio::time::timeout(SILENCE_MAX, &mut draining).await
    {
        return drained;
    }
    let events = bus.outstanding_events();
    if events > 0 {
        note(format_args!(
            "waiting up to {timeout:?} for {events} events that the server has not confirmed; Ctrl-C gives up"
        ));
    }
    draining.await
}

/// Names events that were not delivered, if it is known which they are.
fn which(ids: &[String]) -> Option<String> {
    const NAMED_MAX: usize = 20;
    let (named, rest) = ids.split_at(ids.len().min(NAMED_MAX));
    let more = match rest.len() {
        0 if named.is_empty() => return None,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("their ids: {}{more}", named.join(", ")))
}

/// Tells the service manager when an event that is published reaches the nodes that are up, and then that all is well.
async fn tell(manager: Arc<Notifier>, bus: Arc<Bus>) {
    let alive = async {
        let Some(deadline) = manager.watchdog() else {
            return std::future::pending().await;
        };
        // As sd_watchdog_enabled(3) advises.
        let mut ticks = tokio::time::interval(deadline / 2);
        loop {
            ticks.tick().await;
            // The numbers do not matter: a bus that holds its locks for ever does not come back with them.
            let bus = Arc::clone(&bus);
            if tokio::spawn(async move { bus.metrics() }).await.is_ok() {
                manager.alive();
            }
        }
    };
    let ready = async {
        bus.ready().await;
        let hosts = bus.health().hosts_answering;
        let answering = match hosts {
            1 => "1 node answers".to_owned(),
            _ => format!("{hosts} nodes answer"),
        };
        manager.ready(&format!("Ready, {answering}"));
    };
    tokio::join!(alive, ready);
}

/// What the feeder must know about the printer.
#[derive(Default)]
struct Flow {
    own_events_printed: std::sync::atomic::AtomicU64,
    changed: Notify,
    refusals: Mutex<Refusals>,
}

/// Why the server refuses this node, said once: what is said of the wait for the first connection has the reason in it.
#[derive(Default)]
struct Refusals {
    /// Whether something has been said of that wait, or nothing will be.
    is_free: bool,
    held: Vec<Fault>,
    said: Option<String>,
}

impl Refusals {
    /// What to say of a fault now, if anything.
    fn take(&mut self, fault: Fault) -> Option<Fault> {
        let Fault::Refused { message } = &fault else {
            // With another connection it is news again.
            self.said = None;
            return Some(fault);
        };
        if !self.is_free {
            self.held.push(fault);
            return None;
        }
        (self.said.as_ref() != Some(message)).then_some(fault)
    }

    /// This has been said of the wait, or nothing will be. Answers with what was held back for it.
    fn free(&mut self, said: Option<String>) -> Vec<Fault> {
        self.is_free = true;
        self.said = said;
        let held = std::mem::take(&mut self.held);
        held.into_iter()
            .filter_map(|fault| self.take(fault))
            .collect()
    }
}

impl Flow {
    /// See [`Refusals::free`].
    fn free_refusals(&self, said: Option<String>) {
        let held = self.refusals.lock().free(said);
        held.iter().for_each(|fault| note(format_args!("{fault}")));
    }
}

/// Writes events until the bus ends or nobody reads them any more.
async fn print_events(
    mut events: EventStream<Box<RawValue>>,
    mut output: Output,
    flow: Arc<Flow>,
) -> Result<(), Failed> {
    while let Some(event) = events.next().await {
        output.write(event_line::render(&event)).await?;
        if event.is_own() {
            flow.own_events_printed
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        flow.changed.notify_one();
    }
    output.finish().await
}

async fn print_faults(mut faults: FaultStream, flow: Arc<Flow>) {
    while let Some(fault) = faults.next().await {
        let said = flow.refusals.lock().take(fault);
        if let Some(fault) = said {
            note(format_args!("{fault}"));
        }
        flow.changed.notify_one();
    }
}

/// Publishes lines until there are no more, or it is told to stop.
struct Feeder {
    bus: Arc<Bus>,
    flow: Arc<Flow>,
    key: Option<String>,
    /// Whether events of this node are among those that are printed.
    prints_own: bool,
    stopped: watch::Receiver<bool>,
    bad_lines: u64,
    published: u64,
}

struct Fed {
    bad_lines: u64,
    /// Whether the input ended, rather than the feeder being stopped.
    at_end: bool,
}

impl Feeder {
    async fn run(mut self, settings: &Settings) -> Fed {
        let at_end = self.feed(settings).await.is_some();
        Fed {
            bad_lines: self.bad_lines,
            at_end,
        }
    }

    /// `None`: stopped.
    async fn feed(&mut self, settings: &Settings) -> Option<()> {
        // The server's limit on payloads, which bounds lines, is known only then.
        self.wait_for_server(settings).await?;
        greet(&self.bus, settings);
        let mut lines = Lines::start(self.bus.event_bytes_max());
        let mut number = 0_u64;
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            };
            let Some(line) = line else { return Some(()) };
            number += 1;
            if let Err(reason) = self.publish(line).await? {
                self.bad_lines += 1;
                note(format_args!("line {number}: {reason}"));
            }
        }
    }

    async fn wait_for_server(&mut self, settings: &Settings) -> Option<()> {
        let waited = self.wait(settings).await;
        self.flow.free_refusals(None);
        waited
    }

    async fn wait(&mut self, settings: &Settings) -> Option<()> {
        let bus = Arc::clone(&self.bus);
        let ready = bus.ready();
        tokio::pin!(ready);
        // With a connection it is the other nodes that take their time, and they may.
        for patience in [SILENCE_MAX, ANSWERS_PATIENCE] {
            tokio::select! {
                ready = tokio::time::timeout(patience, &mut ready) => {
                    if ready.is_ok() {
                        return Some(());
                    }
                }
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            }
            if bus.link() != Link::Connected {
                break;
            }
        }
        let refusal = self.bus.refusal();
        note(format_args!(
            "{}",
            self.waits_for(settings, refusal.clone())
        ));
        self.flow.free_refusals(refusal);
        tokio::select! {
            () = ready => Some(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }

    /// Why it is not ready yet, and what to do about that.
    fn waits_for(&self, settings: &Settings, refusal: Option<String>) -> String {
        if self.bus.link() == Link::Connected {
            let health = self.bus.health();
            let silent = health.hosts.into_iter().filter(|host| !host.is_answering);
            let silent: Vec<String> = silent.map(|host| host.name).collect();
            if silent.is_empty() {
                return "connected, but no answer has come back yet; still waiting".into();
            }
            return format!(
                "connected, but these nodes do not answer: {}; still waiting. If they have stopped, this goes on without \
                 them as soon as they are forgotten",
                silent.join(", ")
            );
        }
        let endpoint = settings.nats.client.endpoint.clone();
        let endpoint = endpoint.unwrap_or_else(Endpoint::standard);
        let advice = advice(refusal.as_deref());
        let reason = refusal.map_or_else(String::new, |refusal| format!(" ({refusal})"));
        format!("not connected to {endpoint} yet{reason}; still trying. {advice}")
    }

    async fn publish(&mut self, line: Line) -> Option<Result<(), String>> {
        let value = match input::parse(&line) {
            Ok(value) => value,
            Err(reason) => return Some(Err(reason)),
        };
        self.wait_for_window().await?;
        loop {
            let publish = Publish {
                key: self.key.clone(),
                ..Publish::default()
            };
            match self.bus.publish_with(&value, publish).await {
                Ok(()) => {
                    self.published += 1;
                    return Some(Ok(()));
                }
                Err(PublishError::Disconnected { .. }) => self.wait_for_link().await?,
                Err(error) => return Some(Err(format!("{error}; skipped"))),
            }
        }
    }

    /// Waits until few enough own events are on their way through the bus.
    async fn wait_for_window(&mut self) -> Option<()> {
        loop {
            let printed = self
                .flow
                .own_events_printed
                .load(std::sync::atomic::Ordering::Relaxed);
            let gone = self.bus.stats().lost_events;
            if !self.prints_own || self.published.saturating_sub(printed + gone) < WINDOW_EVENTS {
                return Some(());
            }
            tokio::select! {
                () = self.flow.changed.notified() => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            }
        }
    }

    /// Waits for a connection, which the bus announces by faults when it breaks and when it is back.
    async fn wait_for_link(&mut self) -> Option<()> {
        while self.bus.link() != Link::Connected {
            tokio::select! {
                () = self.flow.changed.notified() => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            }
        }
        Some(())
    }
}

/// What to do about a server that does not let us in, by the words of its last refusal.
fn advice(refusal: Option<&str>) -> &'static str {
    match refusal.map(str::to_ascii_lowercase) {
        Some(refusal) if refusal.contains("authoriz") || refusal.contains("authentic") => {
            "The server there wants a login, which the settings cannot give yet: let it take clients without one, or \
             name another in `eventBus.nats.client.endpoint`"
        }
        Some(refusal) if refusal.contains("dns") => {
            "Correct the host in `eventBus.nats.client.endpoint`, or make its name known"
        }
        // Files are looked at again and again, settings at the start alone.
        Some(refusal) if refusal.contains("enabletls") => {
            "If it is this node's settings that are wrong, correct them and start it again"
        }
        Some(refusal) if refusal.contains("tls") || refusal.contains("certificate") => {
            "Once that is put right the connection is made by itself"
        }
        Some(refusal) if refusal.contains("timed out") || refusal.contains("speak nats") => {
            "Something is there that is no NATS server: check `eventBus.nats.client.endpoint`"
        }
        _ => "Start a server there, or set `eventBus.nats.server.enable: true`",
    }
}

/// Whether somebody's terminal is any of our streams; once it is closed that cannot be told any more.
fn is_on_terminal() -> bool {
    std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal()
}

/// Two lines for people: where clients and monitoring are, and what to type.
fn greet(bus: &Bus, settings: &Settings) {
    if !(std::io::stderr().is_terminal() && std::io::stdin().is_terminal()) {
        return;
    }
    let subject = &settings.nats.client.subject;
    let pages = bus.monitoring_url().unwrap_or_default();
    match (settings.transport, bus.server_url()) {
        (TransportKind::Local, _) => say(format_args!(
            "Event bus inside this process; no server, no monitoring."
        )),
        (TransportKind::Nats, None) => say(format_args!(
            "Event bus on subject {subject} of another node's server."
        )),
        (TransportKind::Nats, Some(url)) => say(format_args!(
            "Clients connect to {url}, subject {subject}; monitoring is at {pages}."
        )),
    }
    say(format_args!(
        "Type one JSON value per line, such as {{\"hello\": \"world\"}}. Ctrl-D or Ctrl-C ends."
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_were_not_delivered_are_named_up_to_a_bound() {
        let named = |count: u32| which(&(1..=count).map(|id| id.to_string()).collect::<Vec<_>>());
        assert_eq!(named(0), None);
        assert_eq!(named(2).as_deref(), Some("their ids: 1, 2"));
        let all = named(20).expect("ids");
        assert!(all.ends_with(" 19, 20"), "{all}");
        assert_eq!(named(22), Some(format!("{all} and 2 more")));
    }
}
