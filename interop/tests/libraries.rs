//! The client libraries that take part, and how a script for one is started.

use std::path::Path;
use std::process::Command;

use testkit::programs::{self, Missing};

/// A client library.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Library {
    AsyncNats,
    NatsPy,
    NatsJs,
}

impl Library {
    pub(crate) const ALL: [Self; 3] = [Self::AsyncNats, Self::NatsPy, Self::NatsJs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AsyncNats => "async-nats",
            Self::NatsPy => "nats.py",
            Self::NatsJs => "nats.js",
        }
    }

    pub(crate) fn available(self) -> Result<(), Missing> {
        match self {
            Self::AsyncNats => Ok(()),
            Self::NatsPy => programs::python().map(drop),
            Self::NatsJs => programs::javascript().map(drop),
        }
    }

    /// What runs the script of this name, if the library is not one of Rust.
    pub(crate) fn command(self, script: &str) -> Option<Command> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::AsyncNats => None,
            Self::NatsPy => {
                let mut command = Command::new(programs::python().expect("checked before"));
                command.arg(folder.join(format!("python/{script}.py")));
                Some(command)
            }
            Self::NatsJs => {
                let packages = programs::javascript().expect("checked before");
                let mut command = Command::new("node");
                // The script resolves its packages from where they were prepared.
                command
                    .arg(folder.join(format!("js/{script}.cjs")))
                    .current_dir(packages);
                Some(command)
            }
        }
    }
}
