//! `natterjack reply`.

use std::process::ExitCode;

use futures_util::StreamExt;

use crate::connection::{self, OnLoss};
use crate::message::{self, HeaderArguments, Payload};
use crate::output::{Output, note, say};
use crate::signals::Stop;
use crate::value;

/// Answer requests until interrupted
#[derive(clap::Args)]
#[command(
    after_help = "The answer may have placeholders: {{Request}}, {{Count}}, {{Time}}, {{TimeStamp}}, {{Unix}}, \
    {{UnixNano}}.\n\nExamples:\n  natterjack reply echo\n  natterjack reply time.now '{{TimeStamp}}'"
)]
pub(crate) struct Arguments {
    /// Subject to answer on
    #[arg(value_parser = value::pattern)]
    subject: String,
    /// Answer; if absent, the request's own payload and headers
    payload: Option<String>,
    /// Answer with the request's own payload and headers
    #[arg(long, conflicts_with = "payload")]
    echo: bool,
    #[command(flatten)]
    headers: HeaderArguments,
    /// Queue group: each request is answered by one of its members
    #[arg(short, long, default_value = "NATS-RPLY-22", value_parser = value::queue, value_name = "GROUP")]
    queue: String,
    /// End after this many requests
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print only the requests' payloads, one per line
    #[arg(short, long)]
    raw: bool,
    /// Send placeholders as they are
    #[arg(long)]
    no_templates: bool,
    #[command(flatten)]
    connection: connection::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::watch()?;
    let answer = match arguments.payload {
        Some(payload) if !arguments.echo => {
            Some(Payload::read(Some(payload), !arguments.no_templates)?)
        }
        _ => None,
    };
    let connection = arguments.connection.connect(65_536, OnLoss::Tell).await?;
    let client = &connection.client;
    let mut requests = client
        .queue_subscribe(arguments.subject.clone(), arguments.queue)
        .await?;
    connection.round_trip().await?;
    say(format_args!("Answering requests on {}", arguments.subject));

    let headers = arguments.headers.map();
    let mut output = Output::start();
    let mut received = 0;
    while arguments.count.is_none_or(|count| received < count) {
        let request = tokio::select! {
            request = requests.next() => request,
            () = stop.signalled() => None,
        };
        let Some(request) = request else { break };
        received += 1;
        tokio::select! {
            // First, so that a signal does not end what need not wait.
            biased;
            written = output.write(message::print(&request, received, arguments.raw)) => written?,
            () = stop.signalled() => return Ok(ExitCode::SUCCESS),
        }
        let Some(reply) = request.reply.clone() else {
            note(format_args!("message {received} asks for no answer"));
            continue;
        };
        let mut headers = headers.clone();
        let payload = match &answer {
            Some(answer) => answer.render(received, Some(&request.payload)),
            None => {
                for (name, values) in request.headers.iter().flat_map(async_nats::HeaderMap::iter) {
                    values
                        .iter()
                        .for_each(|value| headers.append(name.clone(), value.clone()));
                }
                request.payload
            }
        };
        if headers.is_empty() {
            client.publish(reply, payload).await?;
        } else {
            client.publish_with_headers(reply, headers, payload).await?;
        }
    }
    connection.round_trip().await?;
    output.finish().await?;
    Ok(ExitCode::SUCCESS)
}
