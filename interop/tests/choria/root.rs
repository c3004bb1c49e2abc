//! Running programs of a system that was unpacked into a folder, which finds itself at `/` there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// What becomes a program in the root `$1`, with `$2` at `/mnt`. The mounts are the process's own and end with it.
const ENTER: &str = r#"
mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && mount --bind "$2" "$1/mnt" || exit 1
root=$1
shift 2
exec chroot "$root" "$@"
"#;

/// What a test that ends with an error of this kind may lack.
pub(super) const NEEDS: &str = "it runs in a root of its own, which takes root (CAP_SYS_ADMIN), or a system on which users \
    may create user namespaces, and the package util-linux";

/// Who a program there thinks that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Root,
    /// Somebody else, for programs that do not want to be root. It takes a user namespace, also as root.
    Somebody,
}

/// A program in the root; the caller adds its path and arguments. `folder` is what it finds at `/mnt`.
pub(super) fn enter(root: &Path, folder: &Path, user: User) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let mut command = Command::new("unshare");
    match user {
        User::Root if is_root => {}
        User::Root => {
            command.args(["--user", "--map-root-user"]);
        }
        User::Somebody => {
            command.args(["--user", "--map-user=1000", "--keep-caps"]);
        }
    }
    command
        .args(["--mount", "sh", "-c", ENTER, "enter"])
        .args([root, folder])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}
