//! `natterjack nkey`: makes key pairs in the text form of nats, and tells the public key that belongs to a seed.
//!
//! As a password, a seed never stands in the arguments.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

use crate::output::Output;

/// Make a key pair, or tell the public key of a seed
#[derive(clap::Args)]
#[command(
    after_help = "Prints the seed, which the owner keeps secret, and the public key, which the server is configured with:\n  \
    authorization { users: [ { nkey: U... } ] }\n\n\
    Examples:\n  natterjack nkey\n  \
    natterjack nkey account\n  \
    natterjack nkey --output app.nk\n  \
    natterjack nkey --public app.nk"
)]
pub(crate) struct Arguments {
    /// Whose key it is
    #[arg(value_enum, default_value_t = Kind::User)]
    kind: Kind,
    /// Write the seed into a new file that only its owner can read, and print the public key alone
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the public key of the seed in this file, or on standard input; a public key is checked and printed as it is
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = "-",
        conflicts_with_all = ["kind", "output"]
    )]
    public: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    User,
    Account,
    Server,
}

impl From<Kind> for KeyPairType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::User => Self::User,
            Kind::Account => Self::Account,
            Kind::Server => Self::Server,
        }
    }
}

/// More than any file with one key in it has.
const INPUT_BYTES_MAX: u64 = 16 * 1024;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let text = match (arguments.public, arguments.output) {
        (Some(file), _) => public_key(&read(&file)?)?,
        (None, Some(file)) => {
            let pair = KeyPair::new(arguments.kind.into());
            keep(&file, &seed(&pair)?)?;
            pair.public_key()
        }
        (None, None) => {
            let pair = KeyPair::new(arguments.kind.into());
            format!("{}\n{}", *seed(&pair)?, pair.public_key())
        }
    };
    let mut output = Output::start();
    output.write(format!("{text}\n").into_bytes()).await?;
    output.finish().await?;
    Ok(ExitCode::SUCCESS)
}

fn seed(pair: &KeyPair) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(pair.seed().context("a new key has a seed")?))
}

/// Writes a seed where no file is yet: overwriting one would lock its owner out for ever.
fn keep(file: &Path, seed: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(file)
        .and_then(|mut opened| opened.write_all(format!("{seed}\n").as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let outcome = if file == Path::new("-") {
        read_bounded(io::stdin().lock(), &mut text)
    } else {
        File::open(file).and_then(|opened| read_bounded(opened, &mut text))
    };
    outcome.with_context(|| match file.to_str() {
        Some("-") => "cannot read standard input".to_owned(),
        _ => format!("cannot read {}", file.display()),
    })?;
    Ok(text)
}

fn read_bounded(input: impl Read, text: &mut String) -> io::Result<usize> {
    input.take(INPUT_BYTES_MAX).read_to_string(text)
}

/// The public key that belongs to what a file holds: a seed, a public key, or the seed of a credentials file.
fn public_key(text: &str) -> anyhow::Result<String> {
    let mut words = text.split_whitespace().filter(|word| is_key_like(word));
    let (Some(word), None) = (words.next(), words.next()) else {
        bail!("there must be one seed (58 capitals and digits, S first) or one public key (56)");
    };
    let pair = if word.starts_with('S') {
        KeyPair::from_seed(word)
    } else {
        KeyPair::from_public_key(word)
    };
    // What is wrong with it is told without showing it.
    let pair = pair.with_context(|| match word.len() {
        56 => "this is not a public key",
        _ => "this is not a seed",
    })?;
    if pair.key_pair_type() == KeyPairType::Curve {
        bail!("keys for encryption (X) are not supported");
    }
    let public = pair.public_key();
    // An unknown role is read as some other one, which shows in the first letter.
    let claimed = word.strip_prefix('S').unwrap_or(word).chars().next();
    if public.chars().next() != claimed {
        bail!("nobody's keys begin like this one");
    }
    Ok(public)
}

/// Whether it might be meant as a key: tokens in credentials files have small letters and dots, headings are short.
fn is_key_like(word: &str) -> bool {
    (50..=64).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> (String, String) {
        let pair = KeyPair::new_user();
        (pair.seed().expect("a seed"), pair.public_key())
    }

    #[test]
    fn seeds_and_public_keys_and_credentials_files() {
        let (seed, public) = user();
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.x.y\n\
             ------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        for text in [&seed, &format!("{seed}\n"), &public, &credentials] {
            assert_eq!(public_key(text).expect("a key"), public);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let (seed, public) = user();
        let damaged = format!(
            "{}{}",
            &seed[..57],
            if seed.ends_with('A') { "B" } else { "A" }
        );
        for text in [
            "",
            "SU",
            &damaged,
            &seed[..57],
            &seed.to_lowercase(),
            &format!("{seed} {seed}"),
            &public.replacen('U', "A", 1),
            &"S".repeat(58),
            &"\u{df}".repeat(28),
        ] {
            let error = public_key(text).expect_err(text);
            let told = format!("{error:#}");
            assert!(text.len() < 10 || !told.contains(&text[..10]), "{told}");
        }
    }
}
