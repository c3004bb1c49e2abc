//! `natterjack passwd`: makes the bcrypt hash of a password, for a server's configuration.
//!
//! The password never stands in the arguments, where every user of the machine could read it. It comes from the terminal,
//! unseen and typed twice, or from standard input.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use data_encoding::BASE32_NOPAD;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::output::{Output, say};
use crate::signals::Stop;

/// Make the bcrypt hash of a password, for a server's configuration
#[derive(clap::Args)]
#[command(
    after_help = "The password is asked for on the terminal, or read from standard input; it is never an argument.\n\
    Put the hash in the place of the password, in quotes:\n  \
    authorization { user: ann, password: \"$2b$11$...\" }\n\n\
    Examples:\n  natterjack passwd\n  \
    natterjack passwd --generate\n  \
    natterjack passwd --cost 12 < password.txt"
)]
pub(crate) struct Arguments {
    /// How much work every login is: one more is twice the time
    #[arg(long, value_name = "4-31", default_value_t = 11, value_parser = clap::value_parser!(u32).range(4..=31))]
    cost: u32,
    /// Make up a password, and tell it on standard error
    #[arg(short, long)]
    generate: bool,
}

/// The bytes of a password that bcrypt looks at. More would be cut without a word, so that passwords which differ only
/// behind them were the same.
const PASSWORD_BYTES_MAX: usize = 72;

/// Of a password that is made up: 130 bits in letters and digits that need no quotes anywhere.
const GENERATED_BYTES: usize = 16;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let password = if arguments.generate {
        let password = generated()?;
        say(format_args!("password: {}", *password));
        password
    } else if io::stdin().is_terminal() {
        match from_terminal().await? {
            Some(password) => password,
            None => return Ok(ExitCode::FAILURE),
        }
    } else {
        from_input(io::stdin().lock())?
    };
    let cost = arguments.cost;
    // Up to minutes of a processor.
    let hash = tokio::task::spawn_blocking(move || hashed(&password, cost)).await??;
    let mut output = Output::start();
    output.write(format!("{hash}\n").into_bytes()).await?;
    output.finish().await?;
    Ok(ExitCode::SUCCESS)
}

fn hashed(password: &str, cost: u32) -> anyhow::Result<String> {
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        bail!("the password is longer than the {PASSWORD_BYTES_MAX} bytes that bcrypt looks at");
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context("cannot make a salt")?;
    let parts = bcrypt::hash_with_salt(password, cost, salt).context("cannot make the hash")?;
    Ok(parts.format_for_version(bcrypt::Version::TwoB))
}

fn generated() -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; GENERATED_BYTES]);
    getrandom::fill(&mut *bytes).context("cannot make up a password")?;
    let mut text = BASE32_NOPAD.encode(&*bytes);
    text.make_ascii_lowercase();
    Ok(Zeroizing::new(text))
}

/// A password and nothing else, with or without an end of line.
fn from_input(input: impl io::Read) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    input
        .take(2 * PASSWORD_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .context("cannot read the password from standard input")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r']) {
        bail!("standard input has more than one line; it should hold the password alone");
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Asks twice; `None` if the person interrupts.
async fn from_terminal() -> anyhow::Result<Option<Zeroizing<String>>> {
    let mut stop = Stop::watch()?;
    // Lives on while the thread that reads is given up, so that the terminal is always set back.
    let _silenced = Silenced::start().context("cannot switch off the terminal's echo")?;
    let asking = tokio::task::spawn_blocking(|| {
        Ok::<_, anyhow::Error>((ask("New password: ")?, ask("Once more: ")?))
    });
    let (first, second) = tokio::select! {
        answers = asking => answers??,
        () = stop.signalled() => return Ok(None),
    };
    if first != second {
        bail!("the two are not the same");
    }
    Ok(Some(first))
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut error = io::stderr().lock();
    // Who cannot see the question may still know the answer.
    let _ = error
        .write_all(prompt.as_bytes())
        .and_then(|()| error.flush());
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin()
        .read_line(&mut line)
        .context("cannot read from the terminal")?;
    let _ = error.write_all(b"\n");
    if read == 0 {
        bail!("no password");
    }
    Ok(Zeroizing::new(
        line.trim_end_matches(['\n', '\r']).to_owned(),
    ))
}

/// A terminal on standard input that does not show what is typed.
struct Silenced(Termios);

impl Silenced {
    fn start() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_one_line() {
        let read = |text: &str| from_input(text.as_bytes()).map(|line| line.to_string());
        for (input, password) in [
            ("pw", "pw"),
            ("pw\n", "pw"),
            ("pw\r\n", "pw"),
            (" p w \n", " p w "),
        ] {
            assert_eq!(read(input).expect("one line"), password);
        }
        assert!(read("a\nb").is_err() && read("a\n\n").is_err());
        assert!(from_input(&[0xff][..]).is_err());
    }

    #[test]
    fn what_bcrypt_would_cut_is_refused() {
        assert!(hashed("", 4).is_err());
        assert!(hashed(&"x".repeat(73), 4).is_err());
        let hash = hashed(&"x".repeat(72), 4).expect("a hash");
        assert!(hash.starts_with("$2b$04$") && hash.len() == 60, "{hash}");
        assert_ne!(hash, hashed(&"x".repeat(72), 4).expect("a hash"), "salted");
    }
}
