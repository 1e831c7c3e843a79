//! A client and a leader's join service, a TCP connection and a TLS session for each attempt.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use hcl_firstboot::{
    http::{Limits, Request, Response, serve_connection},
    key::ClusterKey,
    trust::{
        Error, Identity, Session, Trust, Wanted, dial,
        join::{self, Admitted, Binding, Expected, JoinAnswer, JoinRequest, Refused, Role, Token},
    },
};

use super::{
    anonymous,
    attempt::{Attempt, LEADER, NOW, Wrong, address, incarnation, key, members, name, names, node, random},
};

/// How long a busy machine may take for what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const TOKEN: &str = "SWMTKN-1-0123456789-abcdef";

/// How an attempt ended, as the server has it.
#[derive(Debug)]
pub enum Outcome {
    NoSession(Error),
    /// The session was there, and no request came.
    NoRequest,
    /// The request is none, for this reason.
    Malformed(String),
    Refused(Refused),
    Admitted(Admitted),
}

impl Outcome {
    /// What the table says. Numbers that differ from attempt to attempt are left out.
    pub fn kind(&self) -> String {
        let text = match self {
            Self::NoSession(error) => error.to_string(),
            Self::NoRequest => "no request".to_owned(),
            Self::Malformed(why) => why.split(" at line").next().unwrap_or_default().to_owned(),
            Self::Refused(Refused::Clock(_)) => "the clock is more than 300 s off".to_owned(),
            Self::Refused(refused) => refused.to_string(),
            Self::Admitted(_) => "admitted".to_owned(),
        };
        text.split(", expected one of").next().unwrap_or_default().to_owned()
    }
}

/// One client with its own server.
pub struct Lane {
    pub number: usize,
    to: SocketAddrV4,
    outcomes: Receiver<Outcome>,
    trust: Trust,
    /// The binding of the session before.
    before: RefCell<Option<Binding>>,
}

impl Lane {
    pub fn new(number: usize) -> Self {
        Self::with(number, Some(NOW))
    }

    /// With a leader whose clock is not trusted.
    pub fn without_clock() -> Self {
        Self::with(0, None)
    }

    fn with(number: usize, clock: Option<u64>) -> Self {
        let listener = TcpListener::bind((address(LEADER), 0)).unwrap();
        let SocketAddr::V4(to) = listener.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        let (sender, outcomes) = channel();
        // It ends with the process: nothing waits for it.
        thread::spawn(move || serve(&listener, clock, &sender));
        Self { number, to, outcomes, trust: Trust::new(&key()), before: RefCell::new(None) }
    }

    /// Tries, and says how it ended at the server. What the client got must agree with that.
    pub fn attempt(&self, attempt: &Attempt) -> Outcome {
        let stream = dial(attempt.from, self.to, LIMIT).unwrap();
        let got = match attempt.wrong {
            Some(Wrong::NoCertificate) => anonymous::ask(stream),
            _ => self.ask(stream, attempt),
        };
        let outcome = self.outcomes.recv_timeout(LIMIT).expect("the server says how each attempt ended");
        match (&outcome, &got) {
            (Outcome::Admitted(admitted), Some(response)) => {
                let answer: JoinAnswer = serde_json::from_slice(&response.body).unwrap();
                assert_eq!((response.status, answer.token.reveal(), answer.role), (200, TOKEN, Role::Worker));
                assert_eq!((admitted.peer.node(), admitted.role), (attempt.node, attempt.role));
            }
            (Outcome::Admitted(_), None) => panic!("admitted, and the client has no answer"),
            (Outcome::Refused(refused), Some(response)) => {
                assert_eq!((response.status, response.text()), (403, format!("403 Forbidden: {refused}")));
            }
            (Outcome::Malformed(_), Some(response)) => assert_eq!(response.status, 400),
            (Outcome::NoSession(_), None) => {}
            (outcome, got) => panic!("the server: {outcome:?}, the client: {got:?}"),
        }
        let token = |response: &Response| response.body.windows(7).any(|bytes| bytes == b"SWMTKN-");
        assert_eq!(got.as_ref().is_some_and(token), matches!(outcome, Outcome::Admitted(_)));
        outcome
    }

    /// The answer, where there is one.
    fn ask(&self, stream: TcpStream, attempt: &Attempt) -> Option<Response> {
        // Whatever it shows itself: it takes the leader of this cluster for what it is.
        let identity = Identity::new(attempt.certified.clone(), &attempt.issued, &self.trust.nodes);
        let session = identity.connect(stream, Wanted::Node(node(LEADER)), Some(NOW), LIMIT).unwrap();
        let right = self.trust.binder.bind(&session.exporter());
        let before = self.before.replace(Some(right));
        let request = JoinRequest {
            cluster: attempt.cluster,
            incarnation: attempt.incarnation,
            node: attempt.node,
            address: attempt.address,
            name: attempt.name.clone(),
            role: attempt.role,
            clock: attempt.clock,
            binding: match attempt.wrong {
                Some(Wrong::Transcript) => before.expect("a session went before"),
                Some(Wrong::TranscriptKey) => {
                    Trust::new(&ClusterKey::new(random(attempt.number))).binder.bind(&session.exporter())
                }
                Some(Wrong::TranscriptBit) => flipped(right, attempt.number),
                _ => right,
            },
        };
        let mut body = serde_json::to_value(&request).unwrap();
        let fields = body.as_object_mut().unwrap();
        match attempt.wrong {
            Some(Wrong::UnknownField) => drop(fields.insert("admin".to_owned(), true.into())),
            Some(Wrong::MissingField) => {
                let required = ["cluster", "incarnation", "node", "address", "name", "role", "binding"];
                fields.remove(required[attempt.number / 25 % required.len()]).expect("the request has the field");
            }
            _ => {}
        }
        join::ask(session, join::JOIN_PATH, &body, LIMIT).ok()
    }
}

/// The binding with one bit turned over.
fn flipped(binding: Binding, number: usize) -> Binding {
    let mut digits = String::from(binding).into_bytes();
    let digit = &mut digits[number % 64];
    let value = char::from(*digit).to_digit(16).unwrap() ^ 1 << (number / 64 % 4);
    *digit = char::from_digit(value, 16).unwrap() as u8;
    String::from_utf8(digits).unwrap().try_into().unwrap()
}

/// The leader's join service.
fn serve(listener: &TcpListener, clock: Option<u64>, outcomes: &Sender<Outcome>) {
    let trust = Trust::new(&key());
    let identity = trust.identity(names(LEADER), &[LEADER; 32]);
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        let SocketAddr::V4(from) = stream.peer_addr().unwrap() else { unreachable!("bound to IPv4") };
        let outcome = match identity.accept(stream, clock, LIMIT) {
            Ok(session) => answer(session, &trust, *from.ip(), clock),
            Err(error) => Outcome::NoSession(error),
        };
        if outcomes.send(outcome).is_err() {
            return;
        }
    }
}

fn answer(mut session: Session<TcpStream>, trust: &Trust, from: Ipv4Addr, clock: Option<u64>) -> Outcome {
    let (peer, exporter, members) = (session.peer().clone(), session.exporter(), members());
    let expected = Expected {
        cluster: trust.cluster,
        incarnation: incarnation(),
        members: &members,
        servers: &[node(LEADER), node(11)],
        clock,
        binder: &trust.binder,
    };
    let outcome = RefCell::new(Outcome::NoRequest);
    let handler = |http: &Request| {
        assert_eq!((http.method.as_str(), http.path.as_str()), ("POST", join::JOIN_PATH));
        let (ended, response) = match serde_json::from_slice::<JoinRequest>(&http.body) {
            Err(error) => (Outcome::Malformed(error.to_string()), Response::refusal(400, &error.to_string())),
            Ok(request) => match join::admit(&request, &peer, &exporter, from, &expected) {
                Err(refused) => (Outcome::Refused(refused.clone()), Response::refusal(403, &refused.to_string())),
                Ok(admitted) => {
                    let answer = JoinAnswer {
                        role: admitted.role,
                        token: Token::try_from(TOKEN.to_owned()).unwrap(),
                        managers: vec![address(LEADER)],
                        consul: vec![address(LEADER)],
                        leader: name(LEADER),
                        clock,
                        servers: expected.servers.to_vec(),
                    };
                    let body = serde_json::to_vec(&answer).unwrap();
                    (Outcome::Admitted(admitted), Response::new(200, "application/json", body))
                }
            },
        };
        outcome.replace(ended);
        response
    };
    let limits = Limits { body: join::LONGEST_REQUEST, ..Limits::default() };
    serve_connection(&mut session, from.into(), &limits, &|| false, &handler);
    outcome.into_inner()
}
