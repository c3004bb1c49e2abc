//! What a configuration depends on beside its files: who runs the program, where, and on which machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::facter::Facter;

/// The machine and the user, as far as settings depend on them.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Variables of the environment. Empty ones count as none.
    pub environment: BTreeMap<String, String>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The working directory, where a project's files may be.
    pub directory: Option<PathBuf>,
    /// Whether the user is root, and so stands for the machine.
    pub is_root: bool,
    /// What the system calls this machine.
    pub host_name: String,
    /// Whom to ask about this machine.
    pub facter: Facter,
    /// Where `/etc` is; another one in tests and images.
    pub root: PathBuf,
}

impl Surroundings {
    /// Those of a machine that has nothing but a name: no variables, no home, no Facter, and a user who is not root. For
    /// programs and tests that say the rest themselves.
    #[must_use]
    pub fn bare(host_name: impl Into<String>, root: impl Into<PathBuf>) -> Self {
        Self {
            environment: BTreeMap::new(),
            home: None,
            directory: None,
            is_root: false,
            host_name: host_name.into(),
            facter: Facter::none(),
            root: root.into(),
        }
    }

    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let environment: BTreeMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = environment.get("HOME").filter(|home| !home.is_empty());
        Self {
            home: home.map(PathBuf::from),
            directory: std::env::current_dir().ok(),
            is_root: rustix::process::geteuid().is_root(),
            host_name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            facter: Facter::of_machine(environment.get("PATH").map(String::as_str)),
            root: PathBuf::from("/"),
            environment,
        }
    }

    /// A variable, if it is there and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// A program of Puppet's, at this place or in the folders of `PATH`.
    pub(crate) fn program(&self, of_puppet: &str, name: &str) -> Option<PathBuf> {
        let of_puppet = self.root.join(of_puppet.trim_start_matches('/'));
        crate::facter::program(&of_puppet, name, self.variable("PATH"))
    }

    /// The full name of this machine: what the system says, or if that has no domain, what Facter says.
    pub(crate) fn full_host_name(&self) -> (String, &'static str) {
        // Some write it as DNS does, with a dot at its end.
        let host_name = self.host_name.trim_end_matches('.');
        if host_name.contains('.') {
            return (host_name.to_owned(), "the system's host name");
        }
        match self.facter.fact("networking.fqdn") {
            Some(name) if name.contains('.') => (name, "Facter's networking.fqdn"),
            _ => (host_name.to_owned(), "the system's host name"),
        }
    }
}
