//! `natterjack top`: what servers are doing, on a terminal or as text.
//!
//! `page` is what servers say, `http`, `system` and `source` are how they are asked, `watch` when. `state` makes rates and
//! histories of it, `screens` tables. `looks` is what a person wants of them, `view` draws it, `report` prints it.

mod http;
mod looks;
mod page;
mod rates;
mod report;
mod screens;
mod source;
mod state;
mod system;
mod table;
mod terminal;
mod tls;
mod view;
mod watch;
mod words;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep_until, timeout_at};

use self::http::Address;
use self::looks::{Effect, Extent, INTERVAL_MAX, INTERVAL_MIN, Looks};
use self::report::Report;
use self::screens::Screen;
use self::source::{Access, Discovery, Monitoring, Source, Wanted, basic, bearer};
use self::state::State;
use self::system::SystemAccount;
use self::terminal::Canvas;
use self::view::Theme;
use self::watch::{Watch, now};
use crate::connection::{self, OnLoss};
use crate::output::{Output, note};
use crate::signals::Stop;
use crate::value;

/// Where monitoring is when nobody says otherwise.
const STANDARD_ADDRESS: &str = "http://127.0.0.1:8222";

/// A picture that nothing has changed is drawn anew so often, since it tells how long ago something was.
const REDRAW: Duration = Duration::from_secs(1);

/// Answers of the system account that may wait.
const QUEUE_MESSAGES_MAX: usize = 65_536;

/// The token for monitoring, where no flag gives a login: what flags say can be read by everybody on the machine.
const TOKEN_VARIABLE: &str = "NATTERJACK_MONITOR_TOKEN";

/// A file with more is none with a token.
const TOKEN_FILE_BYTES_MAX: u64 = 8192;

/// Watch servers and clusters: rates, connections, routes, accounts, slow consumers
#[derive(clap::Args)]
#[command(
    after_help = "Servers are asked through their monitoring, where --user and --password, --token-file or --token are what a proxy or the \
    server wants (NATTERJACK_MONITOR_TOKEN in the environment is a token that nobody sees); or all of a cluster through the system account, with --server. In the view, ? lists the keys. \
    --once takes two samples, --interval apart, and ends with 1 if a server does not answer.\n\n\
    Examples:\n  natterjack top\n  natterjack top http://n1:8222 http://n2:8222 http://n3:8222\n  \
    natterjack top http://n1:8222 --cluster --sort pending\n  \
    natterjack top --server nats://sys:secret@n1:4222\n  \
    natterjack top --once --json | jq '.connections[] | select(.pending_bytes > 0)'"
)]
pub(crate) struct Arguments {
    /// Addresses of monitoring, one for each server [default: http://127.0.0.1:8222]
    #[arg(value_name = "URL")]
    addresses: Vec<String>,
    /// Find the other servers of the cluster, where their monitoring is at the same port
    #[arg(long)]
    cluster: bool,
    /// How often servers are asked
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// End after this many rounds
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print text in place of the view, as often as --count says or once
    #[arg(long)]
    once: bool,
    /// Print JSON, a line for each round
    #[arg(long, requires = "once")]
    json: bool,
    /// What to look at first, or all there is to print
    #[arg(long, value_enum)]
    screen: Option<Screen>,
    /// Column to sort by, such as name, pending, rtt, in_msgs, out_bytes, msgs_to
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// Only rows with this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Connections to list of each server
    #[arg(long, value_name = "NUMBER", default_value_t = 1024, value_parser = connections_max)]
    connections: usize,
    /// File whose one line is the token that monitoring wants [env: NATTERJACK_MONITOR_TOKEN: the token]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token", "user", "password"])]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    connection: connection::Arguments,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = value::duration(text)?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err("it is 100ms at least, and 1h at most".into())
    }
}

fn connections_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("write a number from 1 to 100000".into()),
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let looks = arguments.looks()?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !arguments.once && !is_terminal {
        bail!("this is no terminal: --once prints tables, and --once --json is for programs");
    }
    let watch = arguments.watch().await?;
    if arguments.once {
        print(&arguments, watch, looks).await
    } else {
        show(&arguments, watch, looks).await
    }
}

impl Arguments {
    fn looks(&self) -> anyhow::Result<Looks> {
        let mut looks = Looks::new(self.screen.unwrap_or_default(), self.interval);
        if let Some(column) = &self.sort
            && !looks.sort_by(looks.screen, column)
        {
            let columns = looks.screen.columns().iter().map(|column| column.key);
            let columns: Vec<_> = columns.collect();
            bail!(
                "there is no column {column} to sort by; there are {}",
                columns.join(", ")
            );
        }
        if self.reverse {
            looks.reverse();
        }
        looks.filter = self.filter.clone().unwrap_or_default();
        Ok(looks)
    }

    async fn watch(&self) -> anyhow::Result<Watch> {
        if self.connection.names_a_server() {
            if self.token_file.is_some() {
                bail!("--token-file is for monitoring, and --server has servers asked without");
            }
            if let Some(address) = self.addresses.first() {
                bail!("{address} and --server are two ways to ask: give one of them");
            }
            let connection = self
                .connection
                .connect(QUEUE_MESSAGES_MAX, OnLoss::End)
                .await?;
            let account = SystemAccount::new(connection).await?;
            let sources = vec![Source::System(Box::new(account))];
            return Ok(Watch::new(State::default(), sources, None));
        }
        let standard = [STANDARD_ADDRESS.to_owned()];
        let named = match &self.addresses[..] {
            [] => &standard[..],
            named => named,
        };
        let mut addresses = Vec::new();
        for text in named.iter().flat_map(|named| named.split(',')) {
            let address = Address::parse(text.trim())?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let access = self.access(&addresses)?;
        let state = State::new(addresses.iter().map(ToString::to_string));
        let discovery = match self.cluster {
            true => Discovery::new(access.clone(), &addresses),
            false => None,
        };
        let monitoring =
            |address| Source::Monitoring(Box::new(Monitoring::new(access.client(address))));
        let sources = addresses.into_iter().map(monitoring).collect();
        Ok(Watch::new(state, sources, discovery))
    }

    fn access(&self, addresses: &[Address]) -> anyhow::Result<Access> {
        let files = self.connection.given_files()?;
        let is_encrypted = addresses.iter().any(|address| address.is_encrypted);
        let tls = match is_encrypted {
            true => Some(tls::config(files.authorities, files.own)?),
            false if files.authorities.is_some() || files.own.is_some() => {
                bail!("--tlsca, --tlscert and --tlskey are for addresses that begin with https://")
            }
            false => None,
        };
        let unseen = self.unseen_token(std::env::var_os(TOKEN_VARIABLE))?;
        let authorization = match self.connection.given_login() {
            connection::GivenLogin::None => unseen,
            connection::GivenLogin::Token(token) => {
                Some(bearer(token).context("--token has characters that cannot be sent")?)
            }
            connection::GivenLogin::User(user, password) => {
                Some(basic(user, password).context("--user cannot be sent")?)
            }
            connection::GivenLogin::File => {
                bail!(
                    "--creds and --nkey are for --server; monitoring takes --token, or --user and --password"
                )
            }
        };
        Ok(Access { tls, authorization })
    }

    /// The token that is no argument.
    fn unseen_token(&self, variable: Option<OsString>) -> anyhow::Result<Option<HeaderValue>> {
        let (token, whose) = match (&self.token_file, variable) {
            (Some(file), _) => (read_token(file)?, file.display().to_string()),
            (None, Some(text)) if !text.is_empty() => {
                let text = text.into_string().map_err(|_| {
                    anyhow::anyhow!("{TOKEN_VARIABLE} has characters that cannot be sent")
                })?;
                (text, TOKEN_VARIABLE.to_owned())
            }
            _ => return Ok(None),
        };
        let bearer = bearer(&token)
            .with_context(|| format!("{whose} has characters that cannot be sent"))?;
        Ok(Some(bearer))
    }

    fn wanted(&self, looks: &Looks) -> Wanted {
        Wanted {
            sort: looks.server_sort(),
            connections_max: self.connections,
        }
    }
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| {
            opened
                .take(TOKEN_FILE_BYTES_MAX + 1)
                .read_to_string(&mut text)
        })
        .with_context(|| format!("cannot read the token in {}", file.display()))?;
    let token = text.trim();
    let is_one_line = !token.is_empty() && !token.contains('\n');
    if !is_one_line || text.len() as u64 > TOKEN_FILE_BYTES_MAX {
        bail!("{} is to have a token as its one line", file.display());
    }
    Ok(token.to_owned())
}

/// Prints what is known after each round.
async fn print(arguments: &Arguments, mut watch: Watch, looks: Looks) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::watch()?;
    let mut output = Output::start();
    let wanted = arguments.wanted(&looks);
    let printing = async {
        // The first sample is what rates are counted from.
        let mut next = now() + looks.interval;
        watch.round(&wanted).await;
        for round in 0..arguments.count.unwrap_or(1) {
            // Nothing else ends this future: it is the time.
            let _ = timeout_at(next.into(), std::future::pending::<()>()).await;
            next = now() + looks.interval;
            watch.round(&wanted).await;
            let text = if arguments.json {
                let time = Timestamp::now().to_string();
                let report = Report::new(&watch.state, &looks, now(), time);
                serde_json::to_string(&report)? + "\n"
            } else {
                let text = report::text(&watch.state, &looks, arguments.screen, now());
                // Between one time and the next.
                if round == 0 {
                    text
                } else {
                    format!("\n{text}")
                }
            };
            output.write(text.into_bytes()).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        printed = printing => printed?,
        () = stop.signalled() => return Ok(ExitCode::SUCCESS),
    }
    output.finish().await?;
    Ok(tell_problems(&watch.state))
}

/// Tells who did not answer, and whether anybody did not.
fn tell_problems(state: &State) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if let Some((_, problem)) = &state.problem {
        note(format_args!("{problem}"));
        code = ExitCode::FAILURE;
    }
    for server in &state.servers {
        if let state::Standing::Failing { problem, .. } = &server.standing {
            let problem = crate::escape::escaped(problem);
            note(format_args!(
                "{} does not answer: {problem}",
                server.address
            ));
            code = ExitCode::FAILURE;
        }
    }
    for member in state.unasked.values() {
        let text = format!("{} cannot be asked: {}", member.name, member.reason);
        note(format_args!("{}", crate::escape::escaped(&text)));
    }
    code
}

/// The signals that end a program on a terminal, besides those that end every command.
struct Ends {
    stop: Stop,
    hangup: Signal,
    quit: Signal,
    suspend: Signal,
}

enum Told {
    End,
    Suspend,
}

impl Ends {
    fn watch() -> std::io::Result<Self> {
        let suspend = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
        Ok(Self {
            stop: Stop::watch()?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            suspend: signal(suspend)?,
        })
    }

    async fn told(&mut self) -> Told {
        tokio::select! {
            () = self.stop.signalled() => Told::End,
            _ = self.hangup.recv() => Told::End,
            _ = self.quit.recv() => Told::End,
            _ = self.suspend.recv() => Told::Suspend,
        }
    }
}

/// Shows what is known, until somebody has seen enough.
async fn show(
    arguments: &Arguments,
    mut watch: Watch,
    mut looks: Looks,
) -> anyhow::Result<ExitCode> {
    let theme = Theme {
        has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let mut ends = Ends::watch()?;
    let mut canvas = Canvas::take_over().context("cannot use the terminal")?;
    let mut events = EventStream::new();
    let mut extent = Extent::default();
    // What comes while the picture is to stay as it is.
    let mut held = Vec::new();
    let mut shown_at = now();
    let mut next_question = now();
    let mut rounds = 0;
    loop {
        if !looks.is_paused {
            shown_at = now();
        }
        let rows = looks.rows(&watch.state, shown_at);
        canvas.terminal.draw(|frame| {
            extent = view::draw(frame, &watch.state, &looks, &rows, shown_at, theme);
        })?;
        let next_picture = now() + REDRAW;
        let is_asking = !watch.is_idle();
        let mut effect = Effect::Nothing;
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    effect = looks.press(key, &extent);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("cannot read keys"),
                None => return Ok(ExitCode::SUCCESS),
            },
            done = watch.next() => {
                if looks.is_paused {
                    held.push(done);
                } else {
                    watch.take(done);
                }
                if is_asking && watch.is_idle() {
                    rounds += 1;
                }
            }
            told = ends.told() => match told {
                Told::End => return Ok(ExitCode::SUCCESS),
                Told::Suspend => effect = Effect::Suspend,
            },
            () = sleep_until(next_question.into()), if !looks.is_paused => {
                next_question = now() + looks.interval;
                watch.ask(&arguments.wanted(&looks));
            }
            () = sleep_until(next_picture.into()) => {}
        }
        match effect {
            Effect::Nothing => {}
            Effect::Quit => return Ok(ExitCode::SUCCESS),
            Effect::Suspend => canvas.suspend().context("cannot use the terminal")?,
            Effect::Ask => next_question = now(),
        }
        if !looks.is_paused {
            for done in held.drain(..) {
                watch.take(done);
            }
        }
        next_question = next_question.min(now() + looks.interval);
        if arguments.count.is_some_and(|count| rounds >= count) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_limits() {
        assert_eq!(interval("2"), Ok(Duration::from_secs(2)));
        assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
        for wrong in ["0", "99ms", "2h", "often"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
        assert_eq!(connections_max("5"), Ok(5));
        for wrong in ["0", "-1", "100001", "all"] {
            assert!(connections_max(wrong).is_err(), "{wrong}");
        }
    }
}
