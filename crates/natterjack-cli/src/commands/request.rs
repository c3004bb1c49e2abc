//! `natterjack request`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use futures_util::StreamExt;

use crate::connection::{self, OnLoss};
use crate::message::{self, HeaderArguments, Payload};
use crate::output::{Output, note};
use crate::value;

/// Send a request, and print the answers
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  natterjack request time.now ''\n  \
    natterjack request workers.ping ping --replies 0 --timeout 2s    # everybody who answers in 2 seconds")]
pub(crate) struct Arguments {
    /// Subject to send the request to
    #[arg(value_parser = value::subject)]
    subject: String,
    /// Payload; if absent or `-`, it is read from standard input
    payload: Option<String>,
    #[command(flatten)]
    headers: HeaderArguments,
    /// Answers to wait for; 0 takes all that come in time
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    replies: u64,
    /// Time to wait for all answers together
    #[arg(long, default_value = "5s", value_parser = value::duration, value_name = "DURATION")]
    timeout: Duration,
    /// Print only payloads, one per line
    #[arg(short, long)]
    raw: bool,
    /// Send placeholders as they are
    #[arg(long)]
    no_templates: bool,
    #[command(flatten)]
    connection: connection::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let payload = Payload::read(arguments.payload, !arguments.no_templates)?.render(1, None);
    let connection = arguments.connection.connect(1024, OnLoss::Tell).await?;
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    let subject = arguments.subject.clone();
    let headers = arguments.headers.map();
    let asked = if headers.is_empty() {
        client.publish_with_reply(subject, inbox, payload).await
    } else {
        client
            .publish_with_reply_and_headers(subject, inbox, headers, payload)
            .await
    };
    asked.map_err(|error| connection::unpublished(&error))?;

    let mut output = Output::start();
    let mut received = 0;
    let mut no_responders = false;
    let collecting = tokio::time::timeout(arguments.timeout, async {
        while arguments.replies == 0 || received < arguments.replies {
            let Some(answer) = answers.next().await else {
                break;
            };
            if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                no_responders = true;
                break;
            }
            received += 1;
            output
                .write(message::print(&answer, received, arguments.raw))
                .await?;
        }
        anyhow::Ok(())
    });
    let in_time = collecting.await;
    output.finish().await?;
    if let Ok(result) = in_time {
        result?;
    }
    if no_responders {
        bail!("nobody is subscribed to \"{}\"", arguments.subject);
    }
    if received == 0 {
        // A refusal explains silence better than a time limit.
        connection.round_trip().await?;
        bail!("no answer within {:?}", arguments.timeout);
    }
    if received < arguments.replies {
        note(format_args!(
            "only {received} of {} answers came in time",
            arguments.replies
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
