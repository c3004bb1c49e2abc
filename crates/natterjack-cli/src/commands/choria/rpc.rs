//! `natterjack choria rpc`: has agents on nodes do something, and prints what they answer.

use std::io::IsTerminal as _;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use natterjack_choria::client::{Call, Client, Event, Limit, Outcome, Run};
use natterjack_choria::configuration::Role;
use natterjack_choria::identity::Identity;
use natterjack_choria::rpc::{ActionReply, Status, Values};
use serde_json::{Value, json};

use super::conditions::Conditions;
use super::report::{Verdict, remarks, verdict};
use super::table::{Row, render};
use super::{fleet, start};
use crate::escape::{escaped, json_escaped};
use crate::output::{Output, note};
use crate::signals::Stop;
use crate::value;

/// Columns of a table where nobody says how many there are.
const COLUMNS_DEFAULT: usize = 120;

/// Have agents on nodes do something
#[derive(clap::Args)]
#[command(
    after_help = "Arguments written KEY=VALUE are text, as with MCollective where it does not know the agent's \
    description; agents that want numbers or booleans usually understand text, too. KEY:=VALUE is a value in JSON: \
    count:=3, force:=true, names:='[\"a\",\"b\"]'.\n\n\
    The exit code is 0 if all nodes did it, 1 if no node is meant, 2 if some failed or did not answer, 3 if nodes were \
    found and none answered, 4 if nodes were named and none answered, and 130 if it was interrupted before it was sent.\n\n\
    Examples:\n  natterjack choria rpc rpcutil ping\n  \
    natterjack choria rpc rpcutil get_fact fact=os.family -C apache\n  \
    natterjack choria rpc service restart service=httpd -F os.family=RedHat --limit 10% --json"
)]
pub(super) struct Arguments {
    /// The agent
    agent: String,
    /// What it is to do
    action: String,
    /// With what: KEY=TEXT or KEY:=JSON
    #[arg(value_name = "KEY=VALUE", value_parser = argument)]
    arguments: Vec<(String, Value)>,
    #[command(flatten)]
    conditions: Conditions,
    /// How long nodes have to answer
    #[arg(short, long, default_value = "10s", value_parser = value::duration, value_name = "DURATION")]
    timeout: Duration,
    /// How long nodes have to say that they are there [default: the setting discovery_timeout, 2 s]
    #[arg(long, value_parser = value::duration, value_name = "DURATION")]
    discovery_timeout: Option<Duration>,
    /// Look for no more nodes when so many have been found
    #[arg(long, value_name = "NUMBER", value_parser = value::some)]
    expect: Option<usize>,
    /// Ask only so many of the nodes that are meant, or so many of a hundred (10%), chosen by chance
    #[arg(long, visible_alias = "limit-nodes", value_name = "NUMBER[%]", value_parser = limit)]
    limit: Option<Limit>,
    /// Ask only one of the nodes that are meant, as --limit 1
    #[arg(short = '1', long, conflicts_with = "limit")]
    one: bool,
    /// Print all as one JSON object
    #[arg(short, long)]
    json: bool,
    /// Want no answers: end when the request has been sent
    #[arg(long, visible_alias = "nr")]
    no_results: bool,
    /// Show no progress, which is only shown on a terminal anyway
    #[arg(short = 'q', long)]
    no_progress: bool,
}

/// What came of it.
#[derive(Default)]
struct Collected {
    request_id: Option<String>,
    /// Nodes that said that they are there; `None`: nobody was asked to.
    discovered: Option<usize>,
    asked: Option<usize>,
    answers: Vec<(Identity, Result<ActionReply, String>)>,
    outcome: Outcome,
    took: Duration,
    /// The user has lost patience.
    is_interrupted: bool,
}

pub(super) async fn run(shared: &start::Shared, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let call = arguments.call()?;
    let Some(started) = shared.start(Role::Client)? else {
        return Ok(ExitCode::FAILURE);
    };
    let collective = arguments.conditions.collective.as_deref();
    fleet::check_target(&started, collective, &arguments.agent)?;
    let mut stop = Stop::watch()?;
    let Some(mut client) = fleet::client(&started, &mut stop).await? else {
        return Ok(ExitCode::from(fleet::INTERRUPTED));
    };
    let stranger = fleet::stranger(&started, &client);
    let shows_progress = !arguments.json && !arguments.no_progress;
    let progress = Progress::new(shows_progress && std::io::stderr().is_terminal());
    let collected = collect(client.call(call), &progress, &mut stop).await;
    progress.end();
    let mut collected = collected?;
    collected
        .answers
        .sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut output = Output::start();
    let text = if arguments.json {
        json_escaped(&format!("{}\n", collected.json(&arguments)))
    } else {
        collected.text(&arguments, columns_of(std::io::stdout()))
    };
    output.write(text.into_bytes()).await?;
    output.finish().await?;
    let ended = end(client, &collected, &arguments).await;
    if let Some(stranger) = stranger.filter(|_| collected.answers.is_empty()) {
        note(format_args!("{stranger}"));
    }
    Ok(ended)
}

async fn end(client: Client, collected: &Collected, arguments: &Arguments) -> ExitCode {
    client.connector().disconnect().await;
    if collected.request_id.is_none() && collected.is_interrupted {
        note(format_args!("interrupted; no request was sent"));
        return ExitCode::from(fleet::INTERRUPTED);
    }
    if collected.request_id.is_none() {
        let agent = escaped(&arguments.agent);
        note(format_args!(
            "no request was sent: no node that is meant has been found; it would need the agent {agent} and fit all \
             conditions. Nodes with that agent are listed by: natterjack choria ping -A {agent}"
        ));
        return ExitCode::from(Verdict::NobodyThere as u8);
    }
    if arguments.no_results {
        return ExitCode::SUCCESS;
    }
    let was_discovered = collected.discovered.is_some();
    if !was_discovered && !collected.outcome.missing.is_empty() {
        let agent = escaped(&arguments.agent);
        note(format_args!(
            "who was named and is silent may be away, not be called so, or lack the agent {agent}; nodes with that agent \
             are listed by: natterjack choria ping -A {agent}"
        ));
    }
    let verdict = verdict(&collected.outcome, collected.failed(), was_discovered);
    ExitCode::from(verdict as u8)
}

async fn collect(
    mut course: Run<'_>,
    progress: &Progress,
    stop: &mut Stop,
) -> anyhow::Result<Collected> {
    let mut collected = Collected::default();
    loop {
        let event = tokio::select! {
            event = course.next() => event,
            () = stop.signalled() => {
                collected.is_interrupted = true;
                course.stop();
                continue;
            }
        };
        let Some(event) = event.transpose()? else {
            return Ok(collected);
        };
        progress.show(&event);
        match event {
            Event::DiscoveryEnded { nodes, .. } => collected.discovered = Some(nodes),
            Event::Sent {
                request_id, nodes, ..
            } => {
                collected.request_id = Some(request_id);
                collected.asked = nodes.map(|nodes| nodes.len());
            }
            Event::Answered { node, reply, .. } => collected.answers.push((node, reply)),
            Event::Ended { outcome, took } => {
                collected.outcome = outcome;
                collected.took = took;
            }
            _ => {}
        }
    }
}

impl Arguments {
    fn call(&self) -> anyhow::Result<Call> {
        let mut values = Values::new();
        for (name, value) in &self.arguments {
            if values.insert(name.clone(), value.clone()).is_some() {
                bail!("the argument {name} is there twice");
            }
        }
        let mut call = Call::new(&self.agent, &self.action, values);
        call.filter = self.conditions.filter()?;
        call.collective.clone_from(&self.conditions.collective);
        call.limit = if self.one {
            Some(Limit::Nodes(1))
        } else {
            self.limit
        };
        call.timeout = self.timeout;
        call.discovery_timeout = self.discovery_timeout;
        call.nodes_expected = self.expect;
        call.wants_answers = !self.no_results;
        Ok(call)
    }
}

impl Collected {
    fn failed(&self) -> usize {
        let is_failed = |reply: &Result<ActionReply, String>| !matches!(reply, Ok(reply) if reply.status == Status::Ok);
        self.answers
            .iter()
            .filter(|(_, reply)| is_failed(reply))
            .count()
    }

    fn text(&self, arguments: &Arguments, columns: usize) -> String {
        let Some(id) = &self.request_id else {
            return String::new();
        };
        if arguments.no_results {
            return format!("Request sent with id: {id}\n");
        }
        let nothing = Values::new();
        let rows: Vec<_> = self
            .answers
            .iter()
            .map(|(node, reply)| Row {
                node: node.as_str(),
                problem: problem(reply),
                values: reply.as_ref().map_or(&nothing, |reply| &reply.data),
            })
            .collect();
        let mut text = String::new();
        if !rows.is_empty() {
            text = render(&rows, columns);
            if !text.ends_with("\n\n") {
                text.push('\n');
            }
        }
        for remark in remarks(&self.outcome) {
            text.push_str(&remark);
            text.push_str("\n\n");
        }
        let asked = self.asked.unwrap_or(self.outcome.answered);
        text.push_str(&format!(
            "Finished processing {} / {asked} hosts in {:.2} ms\n",
            self.outcome.answered,
            self.took.as_secs_f64() * 1000.0
        ));
        text
    }

    fn json(&self, arguments: &Arguments) -> Value {
        let reply = |(node, reply): &(Identity, Result<ActionReply, String>)| match reply {
            Ok(reply) => json!({
                "sender": node.as_str(),
                "statuscode": reply.status.code(),
                "statusmsg": reply.message,
                "data": reply.data,
            }),
            Err(reason) => json!({
                "sender": node.as_str(),
                "statuscode": Status::UnknownError.code(),
                "statusmsg": reason,
                "data": {},
            }),
        };
        let names = |nodes: &[Identity]| -> Value { nodes.iter().map(Identity::as_str).collect() };
        json!({
            "agent": arguments.agent,
            "action": arguments.action,
            "replies": self.answers.iter().map(reply).collect::<Value>(),
            "request_stats": {
                "requestid": self.request_id,
                "discovered": self.discovered,
                "asked": self.asked,
                "responses": self.outcome.answered,
                "okcount": self.answers.len() - self.failed(),
                "failcount": self.failed(),
                "noresponses": names(&self.outcome.missing),
                "unexpectedresponses": names(&self.outcome.unexpected),
                "repeated": self.outcome.repeated,
                "damaged": self.outcome.damaged,
                "publish_time_ms": self.took.as_secs_f64() * 1000.0,
            },
        })
    }
}

/// What is not well with an answer.
fn problem(reply: &Result<ActionReply, String>) -> Option<String> {
    match reply {
        Ok(reply) if reply.status == Status::Ok => None,
        Ok(reply) => Some(format!("{}: {}", reply.status, reply.message)),
        Err(reason) => Some(format!("not an answer of an agent's: {reason}")),
    }
}

/// What people see while they wait. All of it is ASCII, for terminals that know nothing else, and in one line, for narrow ones.
struct Progress {
    bar: ProgressBar,
}

/// The bar without what stands around it, where there is room.
const BAR_COLUMNS_MAX: usize = 40;

/// What stands around it: brackets and two numbers.
const BAR_FRAME_COLUMNS: usize = 17;

/// What a line needs that says what is done meanwhile.
const MESSAGE_COLUMNS: usize = 32;

impl Progress {
    fn new(is_shown: bool) -> Self {
        let target = if is_shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = if columns_of(std::io::stderr()) < MESSAGE_COLUMNS {
            "{spinner} {pos}"
        } else {
            "{spinner} {msg} {pos}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.tick_chars("-\\|/ "));
        }
        bar.set_message("Discovering hosts ...");
        Self { bar }
    }

    fn show(&self, event: &Event) {
        match event {
            Event::Discovered { .. } | Event::Answered { .. } => self.bar.inc(1),
            Event::Sent {
                nodes: Some(nodes), ..
            } => {
                self.bar.reset();
                let columns = columns_of(std::io::stderr()).saturating_sub(BAR_FRAME_COLUMNS);
                let template = match columns.min(BAR_COLUMNS_MAX) {
                    0 => "{pos} / {len}".to_owned(),
                    columns => format!("[{{bar:{columns}}}] {{pos}} / {{len}}"),
                };
                if let Ok(style) = ProgressStyle::with_template(&template) {
                    self.bar.set_style(style.progress_chars("=> "));
                }
                self.bar.set_length(nodes.len() as u64);
            }
            _ => {}
        }
        self.bar.tick();
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Where it is no terminal, or one that does not say, there is room enough.
fn columns_of(terminal: impl AsFd) -> usize {
    let size = rustix::termios::tcgetwinsize(terminal);
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 {
        COLUMNS_DEFAULT
    } else {
        columns
    }
}

fn argument(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{} is not KEY=VALUE", escaped(text)))?;
    let (name, value) = match name.strip_suffix(':') {
        None => (name, Value::from(value)),
        Some(name) => {
            let value = serde_json::from_str(value).map_err(|error| {
                format!("what stands after := is not JSON: {error}; for text, write {name}={value}")
            })?;
            (name, value)
        }
    };
    if name.is_empty() {
        return Err("there is no name before =".into());
    }
    Ok((name.to_owned(), value))
}

fn limit(text: &str) -> Result<Limit, &'static str> {
    let advice = "write a number of nodes, or a percentage such as 10%";
    match text.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Limit::Percent(percent)),
            _ => Err(advice),
        },
        None => match text.parse() {
            Ok(0) | Err(_) => Err(advice),
            Ok(nodes) => Ok(Limit::Nodes(nodes)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_text_unless_they_say_otherwise() {
        let read = |text| argument(text).unwrap();
        assert_eq!(read("a=1"), ("a".into(), json!("1")));
        assert_eq!(read("a=b=c"), ("a".into(), json!("b=c")));
        assert_eq!(read("a="), ("a".into(), json!("")));
        assert_eq!(read("a:=1"), ("a".into(), json!(1)));
        assert_eq!(read("a:=true"), ("a".into(), json!(true)));
        assert_eq!(read(r#"a:=["b",null]"#), ("a".into(), json!(["b", null])));
        for text in ["a", "=a", ":=1", "a:=b"] {
            assert!(argument(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(limit("3"), Ok(Limit::Nodes(3)));
        assert_eq!(limit("10%"), Ok(Limit::Percent(10)));
        for text in ["", "0", "0%", "101%", "-1", "x", "%"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
