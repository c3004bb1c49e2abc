//! Conversations: text files in which clients and a server take turns, played against a real server.
//!
//! ```text
//! == a name, which becomes the test's
//! # A comment.
//! > SUB greetings 1
//! > PUB greetings 5
//! > hello
//! < MSG greetings 1 5
//! < hello
//! other> PUB greetings 2
//! other> hi
//! < MSG greetings 1 2
//! < hi
//! ```
//!
//! | line | meaning |
//! | --- | --- |
//! | `> text` | the client sends the text and `\r\n` |
//! | `< text` | the server sends exactly the text and `\r\n` |
//! | `< INFO …` | the server sends some `INFO` line |
//! | `< INFO … text … text …` | the same, and it contains these texts; as a connection's first turn, its first `INFO` |
//! | `< CONNECT … text …` | the same of a `CONNECT`, which a server says to another |
//! | `! closed` | the server hangs up, without another word |
//! | `! hang up` | the peer hangs up |
//! | `! round trip` | a `PING` and its `PONG`: what was sent is now done |
//! | `% text` | a line of the server's configuration file |
//! | `! reload` | the server has reloaded the configuration that the `%` lines since the turn before say |
//! | `! reload refused` | the same, but it refused to |
//! | `! lame duck` | the server is sent into lame duck mode |
//! | `! log text` | the server's log has a line that contains the text |
//!
//! Of a text after `…` that begins with `without`, the rest must not be in the line.
//!
//! A word before the mark names the connection; without one it is the connection called ``. A connection opens, and takes
//! its first `INFO`, where it is first mentioned. At the end every connection that is still open makes a round trip, so
//! that nothing the server said in addition goes unnoticed. Consecutive lines sent on one connection travel in one write.
//!
//! A connection whose name begins with `route` is another server's, to the listener for them; `{server_id}` in what is sent
//! stands for the id that the server told such a connection. One whose name begins with `dialled` is one that the server
//! itself makes, to a listener that is there from the start: `{dialled}` in the configuration, and in what is sent, stands
//! for its port. What follows a `-` in the name tells apart connections to the same listener, which are taken in the
//! order of their mention. Of the first `INFO` there nothing is taken. On connections of servers nothing is expected of the
//! system account.
//!
//! Escapes: `\r`, `\n`, `\t`, `\\`, `\xNN`, `\{text*count}` for repetition, and a backslash at the end of the line for
//! "no line end here".

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};

use socket2::SockRef;

use crate::deadline::PATIENCE;
use crate::peer::{Mismatch, Peer};
use crate::server::{Config, Listener, ServerUnderTest, Signal};

/// A named exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// What stands after `==`.
    pub name: String,
    /// The lines of the configuration file that the server starts with.
    configuration: String,
    /// Those of the next reload, while they are collected.
    next_configuration: String,
    turns: Vec<Turn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    connection: String,
    line: usize,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    /// A line of this verb, with all these texts in it.
    ExpectObject(&'static str, Vec<String>),
    ExpectClosed,
    HangUp,
    RoundTrip,
    Configure(String),
    Reload {
        configuration: String,
        is_refused: bool,
    },
    LameDuck,
    ExpectLog(String),
}

/// A line that is not a conversation's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    line: usize,
    problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("neither a heading, nor a comment, nor `>`, `<` or `!` with text")]
    UnknownLine,
    #[error("stands before the first `==` heading")]
    NoHeading,
    #[error(
        "a `!` line says `closed`, `hang up`, `round trip`, `reload`, `reload refused`, `lame duck` or `log …`"
    )]
    UnknownDirective,
    #[error("a backslash is followed by r, n, t, \\, xNN or {{text*count}}")]
    UnknownEscape,
}

/// A conversation that took another course.
#[derive(Debug)]
pub struct Departure {
    line: usize,
    connection: String,
    mismatch: Mismatch,
}

impl fmt::Display for Departure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            connection,
            mismatch,
        } = self;
        write!(
            formatter,
            "line {line}, connection `{connection}`: {mismatch}"
        )
    }
}

impl std::error::Error for Departure {}

/// How what a client sends is cut into writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// Consecutive lines in one write.
    Whole,
    /// Writes of this many bytes.
    Of(usize),
}

impl Conversation {
    /// Reads a file of conversations.
    ///
    /// # Errors
    /// At the first line that is not understood.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, ParseError> {
        let mut conversations: Vec<Self> = Vec::new();
        for (at, text) in text.lines().enumerate() {
            let line = at + 1;
            let fail = |problem| ParseError { line, problem };
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            if let Some(name) = text.strip_prefix("== ") {
                conversations.push(Self {
                    name: name.trim().to_owned(),
                    configuration: String::new(),
                    next_configuration: String::new(),
                    turns: Vec::new(),
                });
                continue;
            }
            let conversation = conversations
                .last_mut()
                .ok_or_else(|| fail(Problem::NoHeading))?;
            let (connection, action) = parse_line(text).map_err(fail)?;
            conversation.push(Turn {
                connection: connection.to_owned(),
                line,
                action,
            });
        }
        Ok(conversations)
    }

    /// What the server is to be started with.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config_at(&Doors::default())
    }

    /// What the server is to be started with if it is to dial these.
    #[must_use]
    pub fn config_at(&self, doors: &Doors) -> Config {
        if self.configuration.is_empty() {
            Config::default()
        } else {
            Config::file(doors.named_in(&self.configuration))
        }
    }

    /// Listens where the server is to dial.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn doors(&self) -> Doors {
        let mut doors = Doors::default();
        for turn in &self.turns {
            if let Some(name) = door_of(&turn.connection)
                && !doors.0.iter().any(|(known, _)| known == name)
            {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
                doors.0.push((name.to_owned(), listener));
            }
        }
        doors
    }

    /// Plays it against a server that was started with [`config`](Self::config).
    ///
    /// # Errors
    /// Where the server says something else, or nothing.
    ///
    /// # Panics
    /// When the server does not accept connections, stops reading, or its log does not say what it should.
    pub fn play(&self, server: &mut ServerUnderTest, pieces: Pieces) -> Result<(), Departure> {
        self.play_at(&Doors::default(), server, pieces)
    }

    /// Plays it against a server that was started with [`config_at`](Self::config_at) these doors.
    ///
    /// # Errors
    /// As [`Self::play`].
    ///
    /// # Panics
    /// As [`Self::play`].
    pub fn play_at(
        &self,
        doors: &Doors,
        server: &mut ServerUnderTest,
        pieces: Pieces,
    ) -> Result<(), Departure> {
        let mut cast = Cast {
            doors,
            server_id: String::new(),
            peers: Vec::new(),
        };
        for turn in &self.turns {
            let depart = |mismatch| Departure {
                line: turn.line,
                connection: turn.connection.clone(),
                mismatch,
            };
            if direct(server, turn) {
                continue;
            }
            let member = cast.member(&turn.connection, server).map_err(depart)?;
            if !matches!(turn.action, Action::ExpectObject(..)) {
                cast.peers[member].introduction = None;
            }
            if let Action::Send(bytes) = &turn.action {
                let bytes = cast.named_in(bytes);
                let peer = &mut cast.peers[member].peer;
                match pieces {
                    Pieces::Whole => peer.send(bytes),
                    Pieces::Of(piece_bytes) => peer.send_in_pieces(bytes, piece_bytes),
                }
                continue;
            }
            let member = &mut cast.peers[member];
            match &turn.action {
                Action::Expect(bytes) => member.peer.try_expect(bytes).map_err(depart)?,
                Action::ExpectObject(verb, texts) => {
                    let object = match member.introduction.take() {
                        Some(info) => info,
                        None => member.peer.try_expect_object(verb).map_err(depart)?,
                    };
                    for text in texts {
                        let (text, is_wanted) = match text.strip_prefix("without ") {
                            Some(text) => (text, false),
                            None => (text.as_str(), true),
                        };
                        assert!(
                            object.contains(text) == is_wanted,
                            "line {}: `{text}` is {} in {object}",
                            turn.line,
                            if is_wanted { "not" } else { "there" }
                        );
                    }
                }
                Action::ExpectClosed => {
                    member.peer.try_expect_closed().map_err(depart)?;
                    member.open = false;
                }
                Action::HangUp => {
                    member.peer.hang_up();
                    member.open = false;
                }
                Action::RoundTrip => member.peer.try_ping_pong().map_err(depart)?,
                Action::Send(_)
                | Action::Configure(_)
                | Action::Reload { .. }
                | Action::LameDuck
                | Action::ExpectLog(_) => unreachable!("done before"),
            }
        }
        for member in cast.peers.iter_mut().filter(|member| member.open) {
            member.peer.try_ping_pong().map_err(|mismatch| Departure {
                line: self.turns.last().map_or(0, |turn| turn.line),
                connection: member.name.clone(),
                mismatch,
            })?;
        }
        Ok(())
    }

    /// How much the clients send in all.
    #[must_use]
    pub fn bytes_sent(&self) -> usize {
        let sent = self.turns.iter().filter_map(|turn| match &turn.action {
            Action::Send(bytes) => Some(bytes.len()),
            _ => None,
        });
        sent.sum()
    }

    /// Adds a turn, as a part of the one before where that does the same on the same connection.
    fn push(&mut self, mut turn: Turn) {
        if let Action::Configure(line) = &turn.action {
            let text = if self.turns.is_empty() {
                &mut self.configuration
            } else {
                &mut self.next_configuration
            };
            text.push_str(line);
            text.push('\n');
            return;
        }
        if let Action::Reload { configuration, .. } = &mut turn.action {
            *configuration = std::mem::take(&mut self.next_configuration);
        }
        if let Some(last) = self.turns.last_mut()
            && last.connection == turn.connection
        {
            match (&mut last.action, &turn.action) {
                (Action::Send(bytes), Action::Send(more))
                | (Action::Expect(bytes), Action::Expect(more)) => {
                    bytes.extend_from_slice(more);
                    return;
                }
                _ => {}
            }
        }
        self.turns.push(turn);
    }
}

/// Does what concerns the server itself; `false` if the turn is a connection's.
fn direct(server: &mut ServerUnderTest, turn: &Turn) -> bool {
    match &turn.action {
        Action::Reload {
            configuration,
            is_refused,
        } => {
            let told = server.reload(configuration);
            assert!(
                told.contains("Failed") == *is_refused,
                "line {}: {told}",
                turn.line
            );
        }
        Action::LameDuck => server.signal(Signal::User2),
        Action::ExpectLog(text) => drop(server.wait_for_log(text)),
        _ => return false,
    }
    true
}

/// Where a server is to dial, by the names of the connections that come of it.
#[derive(Debug, Default)]
pub struct Doors(Vec<(String, TcpListener)>);

impl Doors {
    /// The text with ports in place of names in braces.
    fn named_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, door)| {
            let port = door.local_addr().expect("a bound socket has one").port();
            text.replace(&format!("{{{name}}}"), &port.to_string())
        })
    }

    /// The next connection to one of them.
    fn open(&self, name: &str) -> Peer {
        let (_, door) = self
            .0
            .iter()
            .find(|(known, _)| known == name)
            .expect("every name that is mentioned has a listener");
        // As long as accepting may take.
        SockRef::from(door)
            .set_read_timeout(Some(PATIENCE))
            .expect("patience is never zero");
        match door.accept() {
            Ok((stream, _)) => Peer::on(stream).as_server(),
            Err(error) => panic!("the server does not dial `{name}`: {error}"),
        }
    }
}

/// The listener that a connection is made to, if it is the server that makes it.
fn door_of(connection: &str) -> Option<&str> {
    let name = connection.split('-').next()?;
    name.starts_with("dialled").then_some(name)
}

/// The connections of a conversation, in the order of their entrance.
struct Cast<'play> {
    doors: &'play Doors,
    /// Once it has told another server.
    server_id: String,
    peers: Vec<Member>,
}

struct Member {
    name: String,
    peer: Peer,
    /// Its first INFO, until its first turn.
    introduction: Option<String>,
    open: bool,
}

impl Cast<'_> {
    /// Which one it is; it enters where it is first named.
    fn member(&mut self, name: &str, server: &ServerUnderTest) -> Result<usize, Mismatch> {
        if let Some(at) = self.peers.iter().position(|member| member.name == name) {
            return Ok(at);
        }
        let mut introduction = None;
        let peer = if let Some(door) = door_of(name) {
            self.doors.open(door)
        } else if name.starts_with("route") {
            let mut peer = Peer::connect(server.listener(Listener::Route)).as_server();
            let info = peer.try_expect_info()?;
            if let Some((_, rest)) = info.split_once("\"server_id\":\"") {
                self.server_id = rest.split('"').next().unwrap_or_default().to_owned();
            }
            introduction = Some(info);
            peer
        } else {
            let mut peer = Peer::connect(server.address());
            introduction = Some(peer.try_expect_info()?);
            peer
        };
        self.peers.push(Member {
            name: name.to_owned(),
            peer,
            introduction,
            open: true,
        });
        Ok(self.peers.len() - 1)
    }

    /// What is to be sent, with what only a running server knows in it.
    fn named_in(&self, bytes: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('{') => self
                .doors
                .named_in(&text.replace("{server_id}", &self.server_id))
                .into_bytes(),
            _ => bytes.to_vec(),
        }
    }
}

fn parse_line(text: &str) -> Result<(&str, Action), Problem> {
    let name_end = text
        .find(|char: char| !char.is_ascii_alphanumeric() && char != '-')
        .ok_or(Problem::UnknownLine)?;
    let (connection, rest) = text.split_at(name_end);
    let mark = &rest[..1];
    let said = rest
        .get(1..)
        .map(|said| said.strip_prefix(' ').unwrap_or(said));
    let said = said.ok_or(Problem::UnknownLine)?;
    let action = match (mark, said) {
        (">", said) => Action::Send(line_bytes(said)?),
        ("<", said) if said.starts_with("INFO …") => Action::ExpectObject("INFO", texts(said)),
        ("<", said) if said.starts_with("CONNECT …") => {
            Action::ExpectObject("CONNECT", texts(said))
        }
        ("<", said) => Action::Expect(line_bytes(said)?),
        ("!", "closed") => Action::ExpectClosed,
        ("!", "hang up") => Action::HangUp,
        ("!", "round trip") => Action::RoundTrip,
        ("%", said) => Action::Configure(said.to_owned()),
        ("!", "reload" | "reload refused") => Action::Reload {
            configuration: String::new(),
            is_refused: said == "reload refused",
        },
        ("!", "lame duck") => Action::LameDuck,
        ("!", said) if said.starts_with("log ") => Action::ExpectLog(said[4..].to_owned()),
        ("!", _) => return Err(Problem::UnknownDirective),
        _ => return Err(Problem::UnknownLine),
    };
    Ok((connection, action))
}

/// What stands between the marks that leave something out.
fn texts(said: &str) -> Vec<String> {
    let texts = said.split('…').skip(1).map(str::trim);
    let texts = texts.filter(|text| !text.is_empty());
    texts.map(str::to_owned).collect()
}

/// The bytes that a line stands for, with its line end unless it ends with a backslash.
fn line_bytes(text: &str) -> Result<Vec<u8>, Problem> {
    let trailing = text.len() - text.trim_end_matches('\\').len();
    if trailing % 2 == 1 {
        return unescaped(&text[..text.len() - 1]);
    }
    let mut bytes = unescaped(text)?;
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}

fn unescaped(text: &str) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (taken, meaning) = escape_sequence(escape)?;
        bytes.extend_from_slice(&meaning);
        rest = &escape[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// What follows a backslash: how many bytes it takes, and what it stands for.
fn escape_sequence(text: &str) -> Result<(usize, Vec<u8>), Problem> {
    let known = match text.as_bytes().first() {
        Some(b'r') => Some((1, vec![b'\r'])),
        Some(b'n') => Some((1, vec![b'\n'])),
        Some(b't') => Some((1, vec![b'\t'])),
        Some(b'\\') => Some((1, vec![b'\\'])),
        Some(b'x') => text
            .get(1..3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .map(|byte| (3, vec![byte])),
        Some(b'{') => return repetition(text),
        _ => None,
    };
    known.ok_or(Problem::UnknownEscape)
}

/// `{text*count}`, where the text may have escapes of its own, but no braces.
fn repetition(text: &str) -> Result<(usize, Vec<u8>), Problem> {
    let end = text.find('}').ok_or(Problem::UnknownEscape)?;
    let (repeated, count) = text[1..end]
        .rsplit_once('*')
        .ok_or(Problem::UnknownEscape)?;
    let count = count.parse().map_err(|_| Problem::UnknownEscape)?;
    Ok((end + 1, unescaped(repeated)?.repeat(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, connection: &str, action: Action) {
        assert_eq!(parse_line(line), Ok((connection, action)));
    }

    #[test]
    fn lines_are_understood() {
        check("> PING", "", Action::Send(b"PING\r\n".to_vec()));
        check("a< +OK", "a", Action::Expect(b"+OK\r\n".to_vec()));
        check("<", "", Action::Expect(b"\r\n".to_vec()));
        check(
            "second< INFO …",
            "second",
            Action::ExpectObject("INFO", Vec::new()),
        );
        let texts = vec!["\"ldm\":true".to_owned(), "x".to_owned()];
        check(
            "< INFO … \"ldm\":true … x …",
            "",
            Action::ExpectObject("INFO", texts),
        );
        let texts = vec!["without \"x\"".to_owned()];
        check(
            "dialled-2< CONNECT … without \"x\"",
            "dialled-2",
            Action::ExpectObject("CONNECT", texts),
        );
        check("route! hang up", "route", Action::HangUp);
        check(
            "! log Reloaded",
            "",
            Action::ExpectLog("Reloaded".to_owned()),
        );
        check("! closed", "", Action::ExpectClosed);
        check("a! round trip", "a", Action::RoundTrip);
    }

    #[test]
    fn escapes_stand_for_bytes() {
        check(
            r"> a\x00\xffb\tc\\",
            "",
            Action::Send(b"a\0\xffb\tc\\\r\n".to_vec()),
        );
        check(
            r"> SUB \{x*3} 1\n\",
            "",
            Action::Send(b"SUB xxx 1\n".to_vec()),
        );
        check(r"> \{a\n*2}", "", Action::Send(b"a\na\n\r\n".to_vec()));
        check(r"> a\\", "", Action::Send(b"a\\\r\n".to_vec()));
    }

    #[test]
    fn mistakes_are_refused() {
        assert_eq!(parse_line("hello"), Err(Problem::UnknownLine));
        assert_eq!(parse_line("? x"), Err(Problem::UnknownLine));
        assert_eq!(parse_line("! soon"), Err(Problem::UnknownDirective));
        assert_eq!(parse_line(r"> \q"), Err(Problem::UnknownEscape));
        assert_eq!(parse_line(r"> \x4"), Err(Problem::UnknownEscape));
        let error = Conversation::parse_all("\n> PING\n").expect_err("no heading");
        assert_eq!(
            error,
            ParseError {
                line: 2,
                problem: Problem::NoHeading
            }
        );
    }

    #[test]
    fn configuration_lines_belong_to_the_start_or_to_the_next_reload() {
        let text = "== first\n% a: 1\n% b: 2\n> PING\n% a: 3\n! reload\n! reload refused\n";
        let all = Conversation::parse_all(text).expect("well-formed");
        assert_eq!(all[0].configuration, "a: 1\nb: 2\n");
        let reload = |configuration: &str, is_refused| Action::Reload {
            configuration: configuration.to_owned(),
            is_refused,
        };
        let actions: Vec<&Action> = all[0].turns.iter().map(|turn| &turn.action).collect();
        assert_eq!(actions[1..], [&reload("a: 3\n", false), &reload("", true)]);
    }

    #[test]
    fn lines_of_one_speaker_are_one_turn() {
        let text = "== first\n> a\n> b\n< c\n# why\n< d\nx< e\n== second\n> f\n";
        let all = Conversation::parse_all(text).expect("well-formed");
        let names: Vec<&str> = all
            .iter()
            .map(|conversation| conversation.name.as_str())
            .collect();
        assert_eq!(names, ["first", "second"]);
        let actions: Vec<&Action> = all[0].turns.iter().map(|turn| &turn.action).collect();
        assert_eq!(
            actions,
            [
                &Action::Send(b"a\r\nb\r\n".to_vec()),
                &Action::Expect(b"c\r\nd\r\n".to_vec()),
                &Action::Expect(b"e\r\n".to_vec()),
            ]
        );
    }
}
