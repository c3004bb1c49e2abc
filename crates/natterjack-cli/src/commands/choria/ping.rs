//! `natterjack choria ping`: which nodes are there, and how long they take.

use std::process::ExitCode;
use std::time::Duration;

use natterjack_choria::client::{Event, Outcome, Ping};
use natterjack_choria::configuration::Role;

use super::conditions::Conditions;
use super::{fleet, report, start};
use crate::output::{Output, say};
use crate::signals::Stop;
use crate::value;

/// Ask nodes whether they are there
#[derive(clap::Args)]
#[command(
    after_help = "The exit code is 0 if nodes answered, 2 if one that was named with -I or expected with --expect did \
    not, 4 if nobody did, and 130 if it was interrupted before anybody was asked.\n\n\
    Examples:\n  natterjack choria ping\n  \
    natterjack choria ping -F os.family=Debian -C apache\n  \
    natterjack choria ping -I node1.example.net -I node2.example.net"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    conditions: Conditions,
    /// How long to wait for answers, exactly [default: the setting discovery_timeout, 2 s, anew after each answer]
    #[arg(short, long, value_parser = value::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// End when so many nodes have answered
    #[arg(long, value_name = "NUMBER", value_parser = value::some)]
    expect: Option<usize>,
    /// Print only names, and nothing at the end
    #[arg(long)]
    names: bool,
    /// Print only what is at the end
    #[arg(long, conflicts_with = "names")]
    silent: bool,
}

pub(super) async fn run(shared: &start::Shared, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let filter = arguments.conditions.filter()?;
    let Some(started) = shared.start(Role::Client)? else {
        return Ok(ExitCode::FAILURE);
    };
    let collective = arguments.conditions.collective.as_deref();
    fleet::check_target(&started, collective, "discovery")?;
    let mut stop = Stop::watch()?;
    let Some(mut client) = fleet::client(&started, &mut stop).await? else {
        return Ok(ExitCode::from(fleet::INTERRUPTED));
    };
    let stranger = fleet::stranger(&started, &client);
    let mut course = client.ping(Ping {
        collective: arguments.conditions.collective.clone(),
        filter,
        timeout: arguments.timeout,
        answers_max: arguments.expect,
    });
    let mut output = Output::start();
    let mut times = Vec::new();
    let mut outcome = Outcome::default();
    loop {
        let event = tokio::select! {
            event = course.next() => event,
            () = stop.signalled() => {
                course.stop();
                continue;
            }
        };
        match event.transpose()? {
            Some(Event::Discovered { node, after }) => {
                times.push(after);
                let line = if arguments.names {
                    format!("{node}\n")
                } else {
                    format!("{:<40} time={:.2} ms\n", node.as_str(), milliseconds(after))
                };
                if !arguments.silent {
                    output.write(line.into_bytes()).await?;
                }
            }
            Some(Event::DiscoveryEnded { outcome: ended, .. }) => outcome = ended,
            Some(_) => {}
            None => break,
        }
    }
    if !arguments.names {
        let before = if arguments.silent { "" } else { "\n\n" };
        let summary = format!("{before}---- ping statistics ----\n{}\n", summary(&times));
        output.write(summary.into_bytes()).await?;
    }
    output.finish().await?;
    let stranger = stranger.filter(|_| times.is_empty());
    for line in report::remarks(&outcome).into_iter().chain(stranger) {
        say(format_args!("{line}"));
    }
    client.connector().disconnect().await;
    let is_short = arguments
        .expect
        .is_some_and(|expected| times.len() < expected);
    Ok(ExitCode::from(match times.len() {
        0 => 4,
        _ if is_short || !outcome.missing.is_empty() => 2,
        _ => 0,
    }))
}

fn summary(times: &[Duration]) -> String {
    let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) else {
        return "No responses received".into();
    };
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
    let mean = times.iter().sum::<Duration>() / count;
    format!(
        "{count} replies max: {:.2} min: {:.2} avg: {:.2}",
        milliseconds(*most),
        milliseconds(*least),
        milliseconds(mean)
    )
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_as_those_of_mcollective() {
        let times = [20, 5, 11].map(Duration::from_millis);
        assert_eq!(summary(&times), "3 replies max: 20.00 min: 5.00 avg: 12.00");
        assert_eq!(summary(&[]), "No responses received");
    }
}
