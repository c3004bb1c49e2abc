//! `natterjack sub`.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;

use crate::connection::{self, OnLoss};
use crate::message;
use crate::output::{Output, note, say};
use crate::signals::Stop;
use crate::value;

/// Messages that may wait to be written.
const QUEUE_MESSAGES_MAX: usize = 65_536;

/// How long messages that are on their way when a signal comes may take to be printed.
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// Subscribe, and print what arrives
#[derive(clap::Args)]
#[command(
    after_help = "Ends at Ctrl-C, when it has printed what had been sent to it, after --count messages, or when --timeout is over.\n\n\
    Examples:\n  natterjack sub 'greetings.>'\n  natterjack sub jobs --queue workers\n  \
    natterjack sub numbers --raw --count 10"
)]
pub(crate) struct Arguments {
    /// Subjects to subscribe to; `*` stands for one word, `>` at the end for one or more
    #[arg(required = true, value_parser = value::pattern)]
    subjects: Vec<String>,
    /// Queue group to join: each message goes to one of its members
    #[arg(short, long, value_parser = value::queue, value_name = "GROUP")]
    queue: Option<String>,
    /// End after this many messages
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print only payloads, one per line
    #[arg(short, long)]
    raw: bool,
    /// End after this time; with --count, missing messages are then a failure
    #[arg(long, value_parser = value::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    #[command(flatten)]
    connection: connection::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::watch()?;
    let connection = arguments
        .connection
        .connect(QUEUE_MESSAGES_MAX, OnLoss::Tell)
        .await?;
    let mut subscribers = Vec::new();
    for subject in &arguments.subjects {
        subscribers.push(match &arguments.queue {
            None => connection.client.subscribe(subject.clone()).await?,
            Some(queue) => {
                connection
                    .client
                    .queue_subscribe(subject.clone(), queue.clone())
                    .await?
            }
        });
    }
    connection.round_trip().await?;
    say(format_args!(
        "Subscribed to {}",
        arguments.subjects.join(", ")
    ));

    let mut messages = select_all(subscribers);
    let mut output = Output::start();
    let time_limit = async {
        match arguments.timeout {
            Some(timeout) => {
                // Nothing else ends this future: it is the time limit.
                let _ = tokio::time::timeout(timeout, std::future::pending::<()>()).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_limit);
    let mut received = 0;
    let mut is_stopped = false;
    let mut code = ExitCode::SUCCESS;
    while arguments.count.is_none_or(|count| received < count) {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { break };
                received += 1;
                let text = message::print(&message, received, arguments.raw);
                tokio::select! {
                    // First, so that a signal between two messages is not taken for one that ends a wait for the reader.
                    biased;
                    written = output.write(text) => written?,
                    // Whoever reads our output has stopped reading without closing it.
                    () = stop.signalled() => return Ok(code),
                }
            }
            () = &mut time_limit => {
                if let Some(count) = arguments.count {
                    note(format_args!("only {received} of {count} messages arrived in time"));
                    code = ExitCode::FAILURE;
                }
                break;
            }
            () = stop.signalled() => {
                is_stopped = true;
                break;
            }
        }
    }
    let rest = async {
        if is_stopped && connection.is_connected() {
            // The server ends each subscription when it has sent what it has for it.
            for subscriber in messages.iter_mut() {
                subscriber.drain().await?;
            }
            while let Some(message) = messages.next().await
                && arguments.count.is_none_or(|count| received < count)
            {
                received += 1;
                output
                    .write(message::print(&message, received, arguments.raw))
                    .await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        // Without an answer within this time there is no server, and so no rest.
        rest = tokio::time::timeout(REST_TIMEOUT, rest) => rest.unwrap_or(Ok(()))?,
        () = stop.signalled() => return Ok(code),
    }
    tokio::select! {
        written = output.finish() => written?,
        () = stop.signalled() => {}
    }
    let dropped = connection.dropped_messages();
    if dropped > 0 {
        note(format_args!(
            "{dropped} messages were dropped: they arrived faster than they were written"
        ));
    }
    Ok(code)
}
