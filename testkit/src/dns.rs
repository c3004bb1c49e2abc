//! A DNS server with a zone that a test writes: answers what is in it, or fails in the ways that real ones do.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::deadline::{Deadline, PATIENCE};

/// What a server does with questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answering {
    /// Answers from its zone.
    #[default]
    Zone,
    /// Says nothing.
    Silence,
    /// Answers that something is broken there (SERVFAIL).
    Failure,
    /// Answers that it will not tell (REFUSED).
    Refusal,
}

/// A server that offers a service: what an SRV record says.
#[derive(Debug, Clone)]
pub struct ServiceHost {
    /// Lower ones first.
    pub priority: u16,
    /// Its share of the same priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// Its name.
    pub host: String,
}

/// A server for as long as it lives, over UDP and TCP. What does not fit into a datagram is said over TCP.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    answering: Answering,
    /// By names in small letters, with a dot at the end.
    records: HashMap<(String, RecordType), Vec<Record>>,
    /// How often names have been asked for.
    questions: HashMap<String, usize>,
}

impl DnsServer {
    /// Starts with an empty zone, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is no port that is free for both UDP and TCP.
    #[must_use]
    pub fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::serve((0..16).find_map(|_| sockets(any)).expect("a free port"))
    }

    /// Starts with an empty zone where the resolvers of systems ask: on port 53 of an address. That is for a machine of its
    /// own; it must be dropped there, too.
    ///
    /// # Panics
    /// When the port is taken, or not for this process to have.
    #[must_use]
    pub fn start_at(address: IpAddr) -> Self {
        Self::serve(sockets(SocketAddr::from((address, 53))).expect("port 53 of its own"))
    }

    fn serve((datagrams, streams): (UdpSocket, TcpListener)) -> Self {
        let address = datagrams.local_addr().expect("a bound socket has one");
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        // Both end when the server is dropped, which wakes them.
        thread::spawn(move || serve_datagrams(&datagrams, &server));
        let server = Arc::clone(&shared);
        thread::spawn(move || serve_streams(&streams, &server));
        Self { address, shared }
    }

    /// Where to ask.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the host has these addresses, for so many seconds; without any the name is there and has none.
    ///
    /// # Panics
    /// When this is no name.
    pub fn set_host(&self, host: &str, seconds: u32, addresses: &[IpAddr]) {
        let name = name(host);
        let of = |kind: RecordType| {
            let records = addresses.iter().map(|address| match *address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            });
            let records = records.filter(|data| data.record_type() == kind);
            records
                .map(|data| Record::from_rdata(name.clone(), seconds, data))
                .collect::<Vec<_>>()
        };
        let mut state = self.shared.state();
        for kind in [RecordType::A, RecordType::AAAA] {
            state.records.insert((key(&name), kind), of(kind));
        }
    }

    /// From now on the service has these hosts, for so many seconds.
    ///
    /// # Panics
    /// When one of them is no name.
    pub fn set_service(&self, service: &str, seconds: u32, hosts: &[ServiceHost]) {
        let service = name(service);
        let records = hosts.iter().map(|it| {
            let data = SRV::new(it.priority, it.weight, it.port, name(&it.host));
            Record::from_rdata(service.clone(), seconds, RData::SRV(data))
        });
        let records = records.collect();
        let mut state = self.shared.state();
        state
            .records
            .insert((key(&service), RecordType::SRV), records);
    }

    /// From now on there is no such name.
    ///
    /// # Panics
    /// When this is no name.
    pub fn remove(&self, removed: &str) {
        let key = key(&name(removed));
        self.shared
            .state()
            .records
            .retain(|(name, _), _| *name != key);
    }

    /// From now on questions are treated like this.
    pub fn set_answering(&self, answering: Answering) {
        self.shared.state().answering = answering;
    }

    /// Questions for a name so far, of any kind.
    ///
    /// # Panics
    /// When this is no name.
    #[must_use]
    pub fn questions(&self, asked: &str) -> usize {
        let questions = &self.shared.state().questions;
        questions.get(&key(&name(asked))).copied().unwrap_or(0)
    }

    /// Waits until a name has been asked for so many times in all.
    ///
    /// # Panics
    /// When it has not in time.
    #[track_caller]
    pub fn wait_for_questions(&self, asked: &str, count: usize) {
        let key = key(&name(asked));
        let deadline = Deadline::after(PATIENCE);
        let mut state = self.shared.state();
        loop {
            let questions = state.questions.get(&key).copied().unwrap_or(0);
            if questions >= count {
                return;
            }
            let left = deadline.left();
            let left = left.unwrap_or_else(|| panic!("{asked} was asked for {questions} times"));
            state = self
                .shared
                .asked
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        // Wakes both threads; one that cannot be woken ends with the process.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) {
            let _sent = socket.send_to(&[], self.address);
        }
        let _connected = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said to a question; `None` for silence, and for what is no question.
    fn answer(&self, question: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let [query] = &question.queries[..] else {
            return None;
        };
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        let asked = key(query.name());
        let mut state = self.state();
        *state.questions.entry(asked.clone()).or_default() += 1;
        self.asked.notify_all();

        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let code = match state.answering {
            Answering::Silence => return None,
            Answering::Failure => ResponseCode::ServFail,
            Answering::Refusal => ResponseCode::Refused,
            Answering::Zone if state.records.keys().any(|(name, _)| *name == asked) => {
                ResponseCode::NoError
            }
            Answering::Zone => ResponseCode::NXDomain,
        };
        answer.metadata.response_code = code;
        if code == ResponseCode::NoError
            && let Some(records) = state.records.get(&(asked, query.query_type()))
        {
            answer.add_answers(records.iter().cloned());
        }
        drop(state);
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= bytes_max {
            return Some(bytes);
        }
        answer.answers.clear();
        answer.metadata.truncation = true;
        answer.to_vec().ok()
    }
}

/// A socket of each kind on the same port.
fn sockets(address: SocketAddr) -> Option<(UdpSocket, TcpListener)> {
    let datagrams = UdpSocket::bind(address).ok()?;
    let streams = TcpListener::bind(datagrams.local_addr().ok()?).ok()?;
    Some((datagrams, streams))
}

/// Longest answer in a datagram (RFC 1035, section 2.3.4).
const DATAGRAM_BYTES_MAX: usize = 512;

fn serve_datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
        if shared.state().is_over {
            return;
        }
        if let Some(answer) = shared.answer(&buffer[..count], DATAGRAM_BYTES_MAX) {
            let _sent = socket.send_to(&answer, from);
        }
    }
}

fn serve_streams(listener: &TcpListener, shared: &Arc<Shared>) {
    for accepted in listener.incoming() {
        if shared.state().is_over {
            return;
        }
        let Ok(stream) = accepted else { continue };
        let shared = Arc::clone(shared);
        // Ends with the connection.
        thread::spawn(move || serve_stream(stream, &shared));
    }
}

/// Questions and answers on a stream, each behind its length (RFC 1035, section 4.2.2).
fn serve_stream(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).ok()?;
        let answer = shared.answer(&question, usize::from(u16::MAX))?;
        let length = u16::try_from(answer.len()).ok()?.to_be_bytes();
        stream.write_all(&[&length[..], &answer].concat()).ok()?;
    }
}

#[track_caller]
fn name(text: &str) -> Name {
    let mut name = Name::from_utf8(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn key(name: &Name) -> String {
    name.to_lowercase().to_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;

    fn ask(server: &DnsServer, asked: &str, kind: RecordType) -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(name(asked), kind));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
            .send_to(&question.to_vec().unwrap(), server.address())
            .unwrap();
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..count]).unwrap()
    }

    #[test]
    fn a_zone_is_answered_from() {
        let server = DnsServer::start();
        server.set_host("a.test", 60, &[Ipv4Addr::LOCALHOST.into()]);
        let answer = ask(&server, "A.test", RecordType::A);
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(answer.answers[0].ttl, 60);
        let answer = ask(&server, "a.test", RecordType::AAAA);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(answer.answers.len(), 0);
        server.remove("a.test");
        let answer = ask(&server, "a.test", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(server.questions("a.test"), 3);
    }

    #[test]
    fn long_answers_do_not_fit_into_datagrams() {
        let server = DnsServer::start();
        let addresses: Vec<IpAddr> = (0..100)
            .map(|last| Ipv4Addr::new(127, 0, 0, last).into())
            .collect();
        server.set_host("a.test", 60, &addresses);
        let answer = ask(&server, "a.test", RecordType::A);
        assert!(answer.metadata.truncation && answer.answers.is_empty());
    }
}
