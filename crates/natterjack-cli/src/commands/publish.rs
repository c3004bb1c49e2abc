//! `natterjack pub`.

use std::process::ExitCode;
use std::time::Duration;

use crate::connection::{self, OnLoss};
use crate::message::{HeaderArguments, Payload};
use crate::output::say;
use crate::value;

/// Publish a message, or many
#[derive(clap::Args)]
#[command(
    after_help = "An argument may have placeholders, filled in for each message: {{Count}}, {{Time}}, \
    {{TimeStamp}}, {{Unix}}, {{UnixNano}}.\n\n\
    Examples:\n  natterjack pub greetings hello\n  \
    natterjack pub numbers 'this is {{Count}}' --count 10 --sleep 500ms\n  \
    natterjack pub files -H Name:x.txt < x.txt"
)]
pub(crate) struct Arguments {
    /// Subject to publish to
    #[arg(value_parser = value::subject)]
    subject: String,
    /// Payload; if absent or `-`, it is read from standard input
    payload: Option<String>,
    #[command(flatten)]
    headers: HeaderArguments,
    /// Subject on which answers are expected
    #[arg(long, value_parser = value::subject, value_name = "SUBJECT")]
    reply: Option<String>,
    /// Number of messages
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    count: u64,
    /// Pause between two messages
    #[arg(long, value_parser = value::duration, value_name = "DURATION")]
    sleep: Option<Duration>,
    /// Send placeholders as they are
    #[arg(long)]
    no_templates: bool,
    /// Do not tell what was published
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: connection::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let payload = Payload::read(arguments.payload, !arguments.no_templates)?;
    let connection = arguments.connection.connect(1, OnLoss::Tell).await?;
    let client = &connection.client;
    let headers = arguments.headers.map();
    // The first tick is immediate.
    let mut pauses = arguments
        .sleep
        .filter(|pause| !pause.is_zero())
        .map(tokio::time::interval);
    let mut bytes = 0;
    for number in 1..=arguments.count {
        if let Some(pauses) = &mut pauses {
            pauses.tick().await;
        }
        let payload = payload.render(number, None);
        bytes += payload.len();
        let subject = arguments.subject.clone();
        let published = match (arguments.reply.clone(), headers.is_empty()) {
            (None, true) => client.publish(subject, payload).await,
            (None, false) => {
                client
                    .publish_with_headers(subject, headers.clone(), payload)
                    .await
            }
            (Some(reply), true) => client.publish_with_reply(subject, reply, payload).await,
            (Some(reply), false) => {
                let headers = headers.clone();
                client
                    .publish_with_reply_and_headers(subject, reply, headers, payload)
                    .await
            }
        };
        published.map_err(|error| connection::unpublished(&error))?;
    }
    connection.round_trip().await?;
    if !arguments.quiet {
        let subject = &arguments.subject;
        match arguments.count {
            1 => say(format_args!("Published {bytes} bytes to \"{subject}\"")),
            count => say(format_args!(
                "Published {count} messages, {bytes} bytes, to \"{subject}\""
            )),
        }
    }
    Ok(ExitCode::SUCCESS)
}
