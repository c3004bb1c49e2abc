//! Where a command line says settings come from: a file, variables and flags. The flags are those of the bus's table of
//! options.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use natterjack_bus::settings::{
    DEFAULT_FILE, Loaded, OptionFacts, PREFIX, Problems, Settings, Sources, options,
};

/// A file, perhaps, and the flags that were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    config: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl Given {
    /// Flags alone, as they stand on a command line.
    pub(crate) fn from_flags(flags: Vec<String>) -> Result<Self, clap::Error> {
        let command = flags_of(Command::new("natterjack check --bus FILE --"))
            .no_binary_name(true)
            .disable_help_flag(true)
            .override_usage("natterjack check --bus FILE -- [FLAGS]");
        let matches = command.try_get_matches_from(flags)?;
        Ok(Self {
            config: None,
            flags: given(&matches),
        })
    }

    /// The same with a file, or without.
    pub(crate) fn with_config(self, config: Option<PathBuf>) -> Self {
        Self { config, ..self }
    }

    /// The settings, from the file, or that at the default place if it exists, the process' environment, and the flags.
    pub(crate) fn load(&self) -> Result<Loaded, Problems> {
        let sources = match &self.config {
            Some(path) => Sources::new().file(path),
            None => Sources::new().default_file(),
        };
        let sources = self
            .flags
            .iter()
            .fold(sources.environment(PREFIX), |sources, (name, value)| {
                sources.flag(*name, value)
            });
        Settings::load(&sources)
    }
}

impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .short('c')
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "YAML file whose `eventBus` section describes the bus [default: {DEFAULT_FILE}, if it exists]"
            ));
        flags_of(command.arg(config))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            config: matches.get_one::<PathBuf>("config").cloned(),
            flags: given(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flags_of(command: Command) -> Command {
    options().fold(command, |command, option| command.arg(flag(&option)))
}

fn flag(option: &OptionFacts) -> Arg {
    let list = if option.is_list {
        "; may be repeated"
    } else {
        ""
    };
    let plain = |text: &str| text.replace('`', "");
    let help = format!(
        "{} [{PREFIX}_{}, {}{list}] [default: {}]",
        plain(option.help).trim_end_matches('.'),
        option.variable,
        option.path,
        plain(&option.default),
    );
    let arg = Arg::new(option.flag)
        .long(option.flag)
        .value_name(option.word)
        // Of one value the last counts, as everywhere where flags of this kind are known.
        .action(ArgAction::Append)
        .help_heading("Settings, which go before variables, and these before the file")
        .help(help);
    if option.is_switch {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    }
}

fn given(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    options()
        .flat_map(|option| {
            let values = matches.get_many::<String>(option.flag).unwrap_or_default();
            values.map(move |value| (option.flag, value.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Vec<(&'static str, String)> {
        let words = line.split_whitespace().map(str::to_owned).collect();
        Given::from_flags(words).expect("flags").flags
    }

    #[test]
    fn switches_need_no_value_and_lists_repeat() {
        let one = |name, value: &str| (name, value.to_owned());
        assert_eq!(
            flags("--nats-server-enable"),
            [one("nats-server-enable", "true")]
        );
        assert_eq!(
            flags("--nats-enable-tls=false --nats-server-client-port 1"),
            [
                one("nats-server-client-port", "1"),
                one("nats-enable-tls", "false")
            ]
        );
        assert_eq!(
            flags(
                "--nats-server-cluster-routes nats://a:1,nats://b:1 --nats-server-cluster-routes nats://c:1"
            ),
            [
                one("nats-server-cluster-routes", "nats://a:1,nats://b:1"),
                one("nats-server-cluster-routes", "nats://c:1")
            ]
        );
        assert!(Given::from_flags(vec!["--nats-sever-enable".into()]).is_err());
    }
}
