//! A program on a terminal: what it shows, after all it has written, is a text of lines; keys can be typed, and the size can
//! change.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::deadline::Deadline;

/// A program and its terminal. Dropping it kills the program.
pub struct Terminal {
    child: Child,
    /// The side of who types.
    master: File,
    /// The side of the program, kept so that what it left can be looked at.
    device: File,
    screen: Arc<Screen>,
}

struct Screen {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    parser: vt100::Parser,
    is_closed: bool,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Terminal")
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// Starts a program on a terminal of this size, with these variables in its environment, and without those whose
    /// beginning is `NATS_`.
    ///
    /// # Panics
    /// When there is no terminal, or the program cannot be started. It takes `setsid`, of util-linux.
    #[must_use]
    #[track_caller]
    pub fn start(
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        columns: u16,
        lines: u16,
    ) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("ours");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a plain name"))
            .expect("a terminal");
        tcsetwinsize(&device, size(columns, lines)).expect("ours");
        let end = || Stdio::from(device.try_clone().expect("a descriptor"));
        // A session of its own, so that it is told of new sizes. It takes its place: the process is the same.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(program)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"NATS_") {
                command.env_remove(name);
            }
        }
        let child = command.spawn().expect("setsid exists");
        let master = File::from(master);
        let screen = Arc::new(Screen {
            state: Mutex::new(State {
                parser: parser(columns, lines),
                is_closed: false,
            }),
            changed: Condvar::new(),
        });
        let reader = master.try_clone().expect("a descriptor");
        let followed = Arc::clone(&screen);
        // Ends when the last descriptor of the other side is closed, ours included.
        std::thread::spawn(move || followed.follow(reader));
        Self {
            child,
            master,
            device,
            screen,
        }
    }

    /// The lines that are to be seen now, without blanks at their ends.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.screen.state().parser)
    }

    /// Waits until what is to be seen is as wanted, and returns it.
    ///
    /// # Panics
    /// When it does not come about in time; the message shows the screen.
    #[track_caller]
    pub fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        is_so: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Deadline::after(patience);
        let mut state = self.screen.state();
        loop {
            let shown = text(&state.parser);
            if is_so(&shown) {
                return shown;
            }
            let Some(left) = deadline.left().filter(|_| !state.is_closed) else {
                panic!("no {what} on:\n{shown}");
            };
            state = self
                .screen
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until this text is to be seen, and returns all there is.
    ///
    /// # Panics
    /// When it does not come in time.
    #[track_caller]
    pub fn wait_for(&self, text: &str, patience: Duration) -> String {
        self.wait_until(&format!("`{text}`"), patience, |shown| shown.contains(text))
    }

    /// Types this.
    ///
    /// # Panics
    /// When the terminal does not take it.
    #[track_caller]
    pub fn type_in(&mut self, keys: &str) {
        self.master
            .write_all(keys.as_bytes())
            .expect("a terminal takes keys");
    }

    /// Changes the size. What is to be seen is empty until the program draws anew.
    ///
    /// # Panics
    /// When the terminal has gone.
    #[track_caller]
    pub fn resize(&mut self, columns: u16, lines: u16) {
        let mut state = self.screen.state();
        state
            .parser
            .screen_mut()
            .set_size(number(lines), number(columns));
        state.parser.process(b"\x1b[2J");
        drop(state);
        tcsetwinsize(&self.device, size(columns, lines)).expect("the terminal is there");
    }

    /// Whether the picture that was there before the program is there, with a cursor, and lines are read and shown as they
    /// are typed. What has been written may still be on its way: see [`Terminal::is_given_back`].
    #[must_use]
    pub fn is_as_before(&self) -> bool {
        self.is_plain() && is_bare(&self.screen.state().parser)
    }

    /// Whether all of that comes about in time.
    #[must_use]
    pub fn is_given_back(&self, patience: Duration) -> bool {
        let deadline = Deadline::after(patience);
        let mut state = self.screen.state();
        while !(self.is_plain() && is_bare(&state.parser)) {
            let Some(left) = deadline.left() else {
                return false;
            };
            state = self
                .screen
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn is_plain(&self) -> bool {
        let modes = tcgetattr(&self.device).map(|modes| modes.local_modes);
        modes.is_ok_and(|modes| modes.contains(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// Whether it has drawn anything in colour.
    #[must_use]
    pub fn has_colours(&self) -> bool {
        let state = self.screen.state();
        let screen = state.parser.screen();
        let (lines, columns) = screen.size();
        (0..lines.get()).any(|line| {
            (0..columns.get()).any(|column| {
                screen
                    .cell(line, column)
                    .is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
            })
        })
    }

    /// The number of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has ended by itself. `None` when time runs out before.
    ///
    /// # Panics
    /// When the system does not tell.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Deadline::after(patience);
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return Some(status);
            }
            deadline.left()?;
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only if it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, mut master: File) {
        let mut bytes = [0; 4096];
        // The end of a terminal is an error on Linux.
        while let Ok(count @ 1..) = master.read(&mut bytes) {
            self.state().parser.process(&bytes[..count]);
            self.changed.notify_all();
        }
        self.state().is_closed = true;
        self.changed.notify_all();
    }
}

fn text(parser: &vt100::Parser) -> String {
    let screen = parser.screen();
    let lines: Vec<_> = screen
        .rows(0, screen.size().1.get())
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// Whether it shows what it showed at first, with a cursor.
fn is_bare(parser: &vt100::Parser) -> bool {
    let screen = parser.screen();
    !screen.alternate_screen() && !screen.hide_cursor()
}

fn number(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal has lines and columns")
}

fn parser(columns: u16, lines: u16) -> vt100::Parser {
    vt100::Parser::new(number(lines), number(columns), 0)
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PATIENCE;

    #[test]
    fn a_program_shows_reads_and_is_resized() {
        let script = "printf 'one\\033[2;3Htwo'; read line; stty size; cat";
        let mut terminal = Terminal::start(Path::new("sh"), &["-c", script], &[], 20, 5);
        assert!(terminal.wait_for("two", PATIENCE).starts_with("one\n  two"));
        assert!(terminal.is_as_before());
        terminal.resize(30, 6);
        terminal.type_in("go\n");
        terminal.wait_for("6 30", PATIENCE);
        terminal.type_in("\u{4}");
        assert!(terminal.wait_for_exit(PATIENCE).unwrap().success());
    }
}
