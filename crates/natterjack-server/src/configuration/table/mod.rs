//! The one table of options. An option is added by one row here; reading files and flags, `--help`, `check --explain`,
//! what a reload may change and `docs/options.md` all come from the rows.

mod access;
mod cluster;
mod exchange;
mod logging;
mod mappings;
mod message_trace;
mod monitoring;
mod permissions;
mod server;
mod tls;
mod unsupported;

use super::Configuration;
use super::flags::Flag;
use super::row::{Group, OptionFacts, Section, settled};

pub(crate) use self::server::settle;

/// The options outside of all blocks. `settle` is not run by reading: flags come in between.
pub(crate) static TOP: Section<Configuration> = Section {
    groups: &[
        Group {
            title: "Server",
            rows: server::SERVER,
        },
        Group {
            title: "Limits",
            rows: server::LIMITS,
        },
        Group {
            title: "Connections",
            rows: server::CONNECTIONS,
        },
        Group {
            title: "TLS",
            rows: tls::ROWS,
        },
        Group {
            title: "Users and accounts",
            rows: access::ROWS,
        },
        Group {
            title: "Monitoring",
            rows: monitoring::ROWS,
        },
        Group {
            title: "Cluster",
            rows: cluster::ROWS,
        },
        Group {
            title: "Logging and files",
            rows: logging::ROWS,
        },
        Group {
            title: "Not supported yet",
            rows: unsupported::ROWS,
        },
    ],
    settle: settled,
};

/// Every option of the table, blocks before what is in them.
pub(crate) fn options() -> Vec<OptionFacts> {
    let mut options = Vec::new();
    TOP.describe("", &mut options);
    options
}

/// The flags of the options, in the order of the table.
pub(crate) fn flags() -> Vec<&'static Flag> {
    options().iter().filter_map(|option| option.flag).collect()
}

/// Where an option belongs that was not expected in the block of this path, as advice.
pub(crate) fn home_of(name: &str, path: &str) -> Option<String> {
    let home = without_indices(path);
    let options = options();
    let found = options.iter().filter(|option| {
        let names = [option.key].into_iter();
        let mut names = names.chain(option.aliases.iter().copied());
        !option.is_flag_only
            && !option.is_unsupported
            && names.any(|known| known.eq_ignore_ascii_case(name))
    });
    let blocks: Vec<&str> = found
        .map(|option| option.path.rsplit_once('.').map_or("", |(block, _)| block))
        .filter(|block| last_of(block) != last_of(&home))
        .collect();
    // The block that is nearest to where it was looked for: inside of this one, or the one around it.
    let nearest = blocks
        .iter()
        .find(|block| !block.is_empty() && block.starts_with(home.as_str()))
        .or_else(|| blocks.iter().find(|block| home.starts_with(**block)))
        .or_else(|| blocks.first())?;
    Some(if nearest.is_empty() {
        format!("{name} belongs outside of all blocks")
    } else {
        let block = nearest.replace("[]", "").replace('.', " { ");
        let depth = nearest.matches('.').count();
        format!("{name} belongs in {block} {{ … }}{}", " }".repeat(depth))
    })
}

fn last_of(block: &str) -> &str {
    block.rsplit_once('.').map_or(block, |(_, last)| last)
}

/// `accounts.A.users[0]` to `accounts.A.users[]`.
pub(crate) fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut is_index = false;
    for character in path.chars() {
        match character {
            '[' => {
                plain.push_str("[]");
                is_index = true;
            }
            ']' => is_index = false,
            other if !is_index => plain.push(other),
            _ => {}
        }
    }
    plain
}

/// A [`Flag`] in one line: `flag!(["p", "port"], "<port>", Server, Number, "…")`.
macro_rules! flag {
    ([$($name:literal),+], $argument:literal, $group:ident, $takes:ident, $help:expr) => {
        &crate::configuration::flags::Flag {
            names: &[$($name),+],
            argument: $argument,
            help: $help,
            group: crate::configuration::flags::FlagGroup::$group,
            takes: crate::configuration::flags::Takes::$takes,
        }
    };
}
use flag;
