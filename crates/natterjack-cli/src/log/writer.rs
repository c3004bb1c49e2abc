//! The thread that writes: whoever logs hands over a line and goes on.
//!
//! A direct write would let a full pipe or a slow disk stop the tasks that move messages, and one system call per line
//! would make a protocol trace several times slower. The price: lines of the last instant are lost if the process is
//! killed outright. What waits is bounded. When there is no room, whoever logs waits for some, but not for long: a trace
//! is complete as long as its sink moves at all, and a sink that does not move stops nobody twice. Lines that are lost,
//! here or to a full disk, are counted, and the count is written as soon as anything can be written again.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::layout::{Content, Layout, Severity, program};
use super::sink::{Lines, Sink};

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of lines that wait for the thread; as many again may be in its hands. Some 40,000 lines.
    pub(super) waiting_bytes_max: usize,
    /// How long one who logs waits for room. Long enough for a disk that is busy, short enough for clients' timeouts.
    pub(super) wait_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            waiting_bytes_max: 4 * 1024 * 1024,
            wait_max: Duration::from_millis(100),
        }
    }
}

/// How long a writer waits for the one before it, so that lines stay in order.
const PREDECESSOR_WAIT_MAX: Duration = Duration::from_secs(1);

/// A running writer's end for those who log.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    queue: Mutex<Queue>,
    /// Told when there is something to do for the thread.
    filled: Condvar,
    /// Told when the thread has taken or finished something.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Lines,
    /// Lines there was no room for, since the thread last looked; at its end, those it could not tell of.
    lost: u64,
    /// Somebody waited in vain. Nobody waits again until the thread has moved.
    is_stuck: bool,
    /// The thread has lines in its hands.
    is_busy: bool,
    is_closed: bool,
    has_ended: bool,
}

impl Writer {
    /// Starts a thread that writes to this sink, once the writer before it has ended.
    pub(super) fn start(
        sink: Box<dyn Sink>,
        layout: Arc<Layout>,
        bounds: Bounds,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bounds,
            queue: Mutex::default(),
            filled: Condvar::new(),
            moved: Condvar::new(),
        });
        let mut desk = Desk {
            sink,
            layout,
            lost: 0,
            reason: None,
            is_failing: false,
        };
        let before = before.map(|writer| Arc::clone(&writer.shared));
        let thread_shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                if let Some(before) = before {
                    before.wait_for(PREDECESSOR_WAIT_MAX, |queue| queue.has_ended);
                    let lost = std::mem::take(&mut before.queue.lock().lost);
                    if lost > 0 {
                        desk.lose(lost, || "the log before this one failed".into());
                    }
                }
                desk.run(&thread_shared);
            })?;
        Ok(Self { shared })
    }

    /// Hands over one line, its end included.
    pub(super) fn push(&self, line: &[u8]) {
        let Shared {
            bounds,
            queue,
            filled,
            moved,
        } = &*self.shared;
        let has_room = |queue: &Queue| {
            let waiting = queue.lines.bytes().len();
            waiting == 0 || waiting + line.len() <= bounds.waiting_bytes_max
        };
        let mut queue = queue.lock();
        if !has_room(&queue) && !queue.is_stuck {
            let waited =
                moved.wait_while_for(&mut queue, |queue| !has_room(queue), bounds.wait_max);
            queue.is_stuck = waited.timed_out();
        }
        if !has_room(&queue) {
            queue.lost += 1;
            return;
        }
        let was_empty = queue.lines.is_empty();
        queue.lines.push(line);
        drop(queue);
        if was_empty {
            filled.notify_one();
        }
    }

    /// Waits until all lines are written, with a bound. Whether they are.
    pub(super) fn flush(&self, wait_max: Duration) -> bool {
        self.shared.wait_for(wait_max, |queue| {
            queue.lines.is_empty() && queue.lost == 0 && !queue.is_busy
        })
    }

    /// No more lines: the thread ends when it has written what waits.
    pub(super) fn close(&self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.filled.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn wait_for(&self, wait_max: Duration, is_done: impl Fn(&Queue) -> bool) -> bool {
        let mut queue = self.queue.lock();
        let waited = self
            .moved
            .wait_while_for(&mut queue, |queue| !is_done(queue), wait_max);
        !waited.timed_out() || is_done(&queue)
    }

    /// Waits for something to write.
    fn wait_for_lines(&self) -> MutexGuard<'_, Queue> {
        let mut queue = self.queue.lock();
        self.filled.wait_while(&mut queue, |queue| {
            queue.lines.is_empty() && queue.lost == 0 && !queue.is_closed
        });
        queue
    }
}

/// What the thread works with.
struct Desk {
    sink: Box<dyn Sink>,
    layout: Arc<Layout>,
    /// Lines lost, and not told yet.
    lost: u64,
    /// Why the first of them was.
    reason: Option<String>,
    /// The last lines could not all be written.
    is_failing: bool,
}

impl Desk {
    fn run(mut self, shared: &Shared) {
        self.sink.settle();
        let mut lines = Lines::default();
        loop {
            let mut queue = shared.wait_for_lines();
            if queue.lines.is_empty() && queue.lost == 0 {
                break;
            }
            lines.clear();
            std::mem::swap(&mut queue.lines, &mut lines);
            let lost = std::mem::take(&mut queue.lost);
            queue.is_stuck = false;
            queue.is_busy = true;
            drop(queue);
            shared.moved.notify_all();

            self.deliver(&lines);
            if lost > 0 {
                self.lose(lost, || "the log could not be written fast enough".into());
                self.tell();
            }

            shared.queue.lock().is_busy = false;
            shared.moved.notify_all();
        }
        if self.lost > 0 {
            self.tell();
        }
        let mut queue = shared.queue.lock();
        queue.lost = self.lost;
        queue.has_ended = true;
        drop(queue);
        shared.moved.notify_all();
    }

    fn deliver(&mut self, lines: &Lines) {
        if lines.is_empty() {
            return;
        }
        let count = lines.len();
        if self.lost > 0 && !self.tell() {
            self.lost += count as u64;
            return;
        }
        match self.sink.write(lines, &self.layout) {
            Ok(()) => self.is_failing = false,
            Err(failure) => {
                let error = failure.error;
                self.lose((count - failure.lines_written) as u64, || error.to_string());
                self.complain(&error);
            }
        }
    }

    fn lose(&mut self, lines: u64, reason: impl FnOnce() -> String) {
        self.lost += lines;
        self.reason.get_or_insert_with(reason);
    }

    /// Writes into the log that lines are missing. Whether that could be written.
    fn tell(&mut self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        let text = match self.lost {
            1 => format!("1 line of this log was lost: {reason}"),
            lost => format!("{lost} lines of this log were lost: {reason}"),
        };
        let line = self
            .layout
            .line(Severity::Warning, &Content::plain(&text), None);
        let mut lines = Lines::default();
        lines.push(line.as_bytes());
        match self.sink.write(&lines, &self.layout) {
            Ok(()) => {
                self.lost = 0;
                self.reason = None;
                true
            }
            Err(failure) => {
                self.complain(&failure.error);
                false
            }
        }
    }

    /// Says on standard error, once until lines get through again, that the log is broken.
    fn complain(&mut self, error: &io::Error) {
        if !self.is_failing && !self.sink.is_stderr() {
            // If that fails too, there is nobody left to tell.
            let _ = writeln!(
                io::stderr(),
                "{}: cannot write the log: {error}; lines are lost until that is over",
                program()
            );
        }
        self.is_failing = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::Settings;
    use super::super::sink::WriteFailure;
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A sink that shows what it is given, and takes it when it is told to.
    struct Gate {
        offered: Sender<Vec<String>>,
        verdicts: Receiver<Result<(), (usize, io::ErrorKind)>>,
    }

    impl Sink for Gate {
        fn write(&mut self, lines: &Lines, _layout: &Layout) -> Result<(), WriteFailure> {
            let texts = lines
                .iter()
                .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
                .collect();
            self.offered.send(texts).unwrap();
            match self.verdicts.recv_timeout(LONG).unwrap() {
                Ok(()) => Ok(()),
                Err((lines_written, kind)) => Err(WriteFailure {
                    lines_written,
                    error: kind.into(),
                }),
            }
        }

        fn is_stderr(&self) -> bool {
            true
        }
    }

    struct Scene {
        writer: Writer,
        offered: Receiver<Vec<String>>,
        verdicts: Sender<Result<(), (usize, io::ErrorKind)>>,
    }

    fn scene(waiting_bytes_max: usize, wait_max: Duration, before: Option<&Writer>) -> Scene {
        let (offer, offered) = channel();
        let (verdicts, decide) = channel();
        let gate = Gate {
            offered: offer,
            verdicts: decide,
        };
        let layout = Layout::new(&Settings {
            time: false,
            ..Settings::default()
        });
        let bounds = Bounds {
            waiting_bytes_max,
            wait_max,
        };
        let writer = Writer::start(Box::new(gate), Arc::new(layout), bounds, before).unwrap();
        Scene {
            writer,
            offered,
            verdicts,
        }
    }

    impl Scene {
        #[track_caller]
        fn next(&self) -> Vec<String> {
            self.offered.recv_timeout(LONG).unwrap()
        }

        #[track_caller]
        fn next_ends_with(&self, text: &str) {
            let lines = self.next();
            assert!(lines.len() == 1 && lines[0].ends_with(text), "{lines:?}");
        }
    }

    #[test]
    fn what_comes_while_the_thread_writes_is_written_at_once_afterwards() {
        let scene = scene(1_000, LONG, None);
        scene.writer.push(b"one\n");
        assert_eq!(scene.next(), ["one"]);
        scene.writer.push(b"two\n");
        scene.writer.push(b"three\n");
        assert!(!scene.writer.flush(Duration::ZERO));
        scene.verdicts.send(Ok(())).unwrap();
        assert_eq!(scene.next(), ["two", "three"]);
        scene.verdicts.send(Ok(())).unwrap();
        assert!(scene.writer.flush(LONG));
    }

    #[test]
    fn a_sink_that_does_not_move_stops_nobody_twice_and_losses_are_told() {
        let scene = scene(8, Duration::from_millis(1), None);
        scene.writer.push(b"one\n");
        assert_eq!(scene.next(), ["one"]);
        for line in ["two\n", "three\n", "four\n", "five\n"] {
            scene.writer.push(line.as_bytes());
        }
        assert!(scene.writer.shared.queue.lock().is_stuck);
        scene.verdicts.send(Ok(())).unwrap();
        assert_eq!(scene.next(), ["two"]);
        assert!(!scene.writer.shared.queue.lock().is_stuck);
        scene.verdicts.send(Ok(())).unwrap();
        scene.next_ends_with(
            "[WRN] 3 lines of this log were lost: the log could not be written fast enough",
        );
        scene.verdicts.send(Ok(())).unwrap();
        assert!(scene.writer.flush(LONG));
    }

    #[test]
    fn whoever_finds_no_room_waits_for_it() {
        let scene = scene(8, LONG, None);
        scene.writer.push(b"one\n");
        assert_eq!(scene.next(), ["one"]);
        scene.writer.push(b"12345678\n");
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| scene.writer.push(b"three\n"));
            scene.verdicts.send(Ok(())).unwrap();
            assert_eq!(scene.next(), ["12345678"]);
            pushing.join().unwrap();
        });
        scene.verdicts.send(Ok(())).unwrap();
        assert_eq!(scene.next(), ["three"]);
        scene.verdicts.send(Ok(())).unwrap();
    }

    #[test]
    fn lines_lost_to_an_error_are_told_when_it_is_over() {
        let scene = scene(1_000, LONG, None);
        let full = || Err((0, io::ErrorKind::StorageFull));
        scene.writer.push(b"one\n");
        assert_eq!(scene.next(), ["one"]);
        scene.writer.push(b"two\n");
        scene.writer.push(b"three\n");
        scene.verdicts.send(full()).unwrap();
        // The next batch begins with the news, which is lost too; so is the batch.
        scene.next_ends_with("1 line of this log was lost: no storage space");
        scene.verdicts.send(full()).unwrap();
        assert!(scene.writer.flush(LONG));
        scene.writer.push(b"four\n");
        scene.next_ends_with("3 lines of this log were lost: no storage space");
        scene.verdicts.send(Ok(())).unwrap();
        assert_eq!(scene.next(), ["four"]);
        scene.verdicts.send(Ok(())).unwrap();
        assert!(scene.writer.flush(LONG));
    }

    #[test]
    fn lines_that_did_get_through_are_not_counted_as_lost() {
        let scene = scene(1_000, LONG, None);
        scene.writer.push(b"one\n");
        assert_eq!(scene.next(), ["one"]);
        scene.writer.push(b"two\n");
        scene.writer.push(b"three\n");
        scene.verdicts.send(Ok(())).unwrap();
        scene.next();
        scene
            .verdicts
            .send(Err((1, io::ErrorKind::StorageFull)))
            .unwrap();
        assert!(scene.writer.flush(LONG));
        scene.writer.push(b"four\n");
        scene.next_ends_with("1 line of this log was lost: no storage space");
        scene.verdicts.send(Ok(())).unwrap();
        scene.next();
        scene.verdicts.send(Ok(())).unwrap();
    }

    #[test]
    fn a_successor_begins_when_its_predecessor_has_ended() {
        let first = scene(1_000, LONG, None);
        first.writer.push(b"one\n");
        first.next();
        let second = scene(1_000, LONG, Some(&first.writer));
        second.writer.push(b"two\n");
        first.writer.close();
        assert!(second.offered.try_recv().is_err());
        first.verdicts.send(Ok(())).unwrap();
        assert_eq!(second.next(), ["two"]);
        second.verdicts.send(Ok(())).unwrap();
    }
}
