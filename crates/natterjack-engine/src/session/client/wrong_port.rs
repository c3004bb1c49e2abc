//! Who comes to the port for clients and is none: the routes of other servers, and whatever else has missed its port. The
//! log names them once a minute, with the first that they said, and a route is let go late, since it is back at once.

use core::fmt::Display;
use std::time::{Duration, Instant};

use natterjack_wire::client::{ConnectOptions, ServerInfo};
use natterjack_wire::error::{ErrorReply, ProtocolError};
use natterjack_wire::route::RouteConnect;

use super::ClientSession;
use super::input::Halt;
use crate::close_reason::CloseReason;
use crate::session::complaints::{Place, Shown, Start};
use crate::session::foreign;

/// How long a route waits for its last word. nats-server dials anew as soon as a connection has ended that was about to
/// become a route.
const HELD: Duration = Duration::from_secs(1);

/// What the operations begin with that servers alone say to each other (route protocol, section 4).
const ROUTES_WORDS: [&[u8]; 6] = [b"RS+ ", b"RS- ", b"LS+ ", b"LS- ", b"RMSG ", b"LMSG "];

const REMEDY: &str = "it is a server's route, and this is the port for clients: in its `routes`, give it the address of \
                      `listen` in the block `cluster`";

/// What is said of those that are not of NATS at all.
const HTTP_HERE: &str = ": it speaks HTTP, and this is the port for clients: give it that of `http`, where also the \
                         health of this server is told";
const TLS_HERE: &str = ": it speaks TLS, and clients come in clear text here: let its address begin with `nats://`, or \
                        give this server a block `tls`";
const NO_CLIENT: &str = ": no client begins so; see what runs at that address";
const OUT_OF_STEP: &str = ": the message before may have had another length than was announced";

impl ClientSession {
    /// The end of a connection whose first CONNECT is a server's. Clients' libraries say in which language they are
    /// written, and know of no cluster.
    pub(super) fn route_by_connect(
        &self,
        options: &ConnectOptions,
        json: &[u8],
        now: Instant,
    ) -> Option<Halt> {
        if !options.lang.is_empty() {
            return None;
        }
        let connect = RouteConnect::parse(json).ok()?;
        let is_route = !connect.cluster.is_empty() || connect.cluster_dynamic || connect.lnoc;
        is_route.then(|| self.route(&connect.name, now))
    }

    /// The same for one that begins with INFO.
    pub(super) fn route_by_info(&self, info: &ServerInfo, now: Instant) -> Option<Halt> {
        let is_route = self.connect.is_none() && !info.server_id.is_empty();
        is_route.then(|| self.route(&info.server_id, now))
    }

    /// The same for one that says `input`, which no client does.
    pub(super) fn route_by_words(&self, input: &[u8], now: Instant) -> Option<Halt> {
        let may_be = (self.connect.as_ref()).is_none_or(|options| options.lang.is_empty());
        let is_route = may_be && ROUTES_WORDS.iter().any(|word| input.starts_with(word));
        is_route.then(|| self.route("", now))
    }

    /// Says that what comes is no operation, or a wrong one. Passwords may stand behind CONNECT, however it is misspelt.
    pub(super) fn tell_of_fault(&self, error: ProtocolError, input: &[u8], now: Instant) {
        let is_shown = error == ProtocolError::UnknownOperation
            && !input
                .first()
                .is_some_and(|byte| byte.eq_ignore_ascii_case(&b'C'));
        if !is_shown {
            self.complain(&format!("fault {error}"), &error, now);
            return;
        }
        let remedy = if self.connect.is_some() {
            OUT_OF_STEP
        } else if foreign::speaks_http(input) {
            HTTP_HERE
        } else if foreign::speaks_tls(input) {
            TLS_HERE
        } else {
            NO_CLIENT
        };
        let what = format_args!("{error}: {}{remedy}", Start(input));
        self.complain(&format!("fault {error}{remedy}"), &what, now);
    }

    /// The same of what CONNECT says.
    pub(super) fn tell_of_bad_connect(&self, json: &[u8], error: &dyn Display, now: Instant) {
        let remedy = if foreign::asks_for_tunnel(json) {
            HTTP_HERE
        } else {
            ""
        };
        let what = format_args!("CONNECT refused: {error}{remedy}");
        self.complain(&format!("CONNECT {error}"), &what, now);
    }

    fn route(&self, remote: &str, now: Instant) -> Halt {
        let remote = Shown(remote).to_string();
        let behind = match remote.as_str() {
            "" => String::new(),
            remote => format!(" - Remote: {remote}"),
        };
        let what = format_args!("attempted to connect to the client port: {REMEDY}{behind}");
        self.complain(&format!("route {remote}"), &what, now);
        Halt::Tell(ErrorReply::UnknownOperation, CloseReason::WrongPort)
    }

    /// Says what is wrong with whoever came, of which `thing` is a name.
    pub(super) fn complain(&self, thing: &str, what: &dyn Display, now: Instant) {
        let place = Place::new(self.record.address(), false);
        let unsaid = self.engine.complaints.lock().note(place, thing, now);
        match unsaid {
            Some(unsaid) => tracing::error!("{} - {what}{unsaid}", self.label()),
            None => tracing::debug!("{} - {what}", self.label()),
        }
    }

    /// Nothing more is read, and the last word comes when this deadline has passed.
    pub(super) fn turn_away(&mut self, now: Instant) {
        self.is_turned_away = true;
        self.auth_deadline = Some(now + HELD);
    }
}
