//! A network namespace: how it comes to be, how to get in, and how it is sure to end.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::privileges::NEEDS;
use crate::deadline::PATIENCE;
use crate::program::Program;

/// What holds a namespace. A line or the end of its input ends it, and the end comes also when the test is killed: the other
/// end of the pipe is the test's alone. Then it kills whoever is still in the namespace, so nobody outlives the test. `$1` is
/// the namespace that it was started from, where it must not kill.
const KEEPER: &str = r#"
trap '' INT TERM HUP
own=$(readlink /proc/$$/ns/net)
[ -n "$own" ] && [ -n "$1" ] && [ "$own" != "$1" ] || exit 1
ip link set lo up || exit 1
echo "namespace of $$"
read -r line
for process in /proc/[0-9]*; do
    id=${process#/proc/}
    [ "$id" != $$ ] && [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$own" ] && kill -9 "$id"
done
exit 0
"#;
const ANNOUNCEMENT: &str = "namespace of ";

#[derive(Debug)]
pub(super) struct Namespace {
    keeper: Program,
    /// A handle to the namespace.
    link: File,
}

impl Namespace {
    /// An empty namespace whose loopback is up.
    #[track_caller]
    pub(super) fn create() -> Self {
        let outside = fs::read_link("/proc/self/ns/net").expect("Linux has network namespaces");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-c", KEEPER, "keeper"])
            .arg(outside);
        let keeper =
            Program::spawn(&mut command).unwrap_or_else(|error| panic!("{NEEDS}: {error}"));
        let line = keeper
            .wait_for(ANNOUNCEMENT, PATIENCE)
            .unwrap_or_else(|_| panic!("{NEEDS}: {}", keeper.output()));
        let process = line.trim_start_matches(ANNOUNCEMENT);
        let link = File::open(format!("/proc/{process}/ns/net")).expect("the keeper is there");
        Self { keeper, link }
    }

    /// Does this in a thread that is in the namespace, and returns when it is done. The processes of this thread begin there.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.link.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap_or_else(|error| panic!("{NEEDS}: {error}"));
                work()
            });
            inside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // If it is gone already, there is nothing to end.
        if self.keeper.send_line("").is_ok() {
            let _ = self.keeper.wait_for_exit(PATIENCE);
        }
    }
}
