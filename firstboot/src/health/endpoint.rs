//! Health of this node's part in the cluster's Docker endpoint. Both containers are asked themselves, as those ask that they are for: one as a
//! node, the other as a user.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    time::Duration,
};

use super::{Found, services::RESTART};
use crate::{
    driver::{self, Options},
    endpoint::{
        IMAGE, JOIN_PORT, MANAGE_PORT,
        container::{JOIN, MANAGE},
        files,
    },
    engine::Engine,
    http::{self, Client, Stream},
    key::ClusterKey,
    services::{images, kept, kept::Kept, place},
    status::Status,
    trust::{NodeNames, Person, Trust, Wanted, dial},
};

/// How long each of them may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What was seen. Errors are what is wrong, without what to do.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether the card has the image.
    pub image: bool,
    /// Whether this node is a server.
    pub server: bool,
    /// Whether *join* runs, and leads a node to this engine.
    pub join: Result<(), String>,
    /// Whether *manage* runs, and answers this node's users.
    pub manage: Result<(), String>,
}

impl Seen {
    /// Looks at both containers, and asks them.
    pub(super) fn gather(options: &Options, engine: Option<&Engine>, status: Option<&Status>) -> Self {
        let running = |name: &str| {
            let engine = engine.ok_or_else(|| "the engine does not answer".to_owned())?;
            match engine.container(name).map_err(|error| error.to_string())? {
                None => Err("there is no such container".to_owned()),
                Some(found) if !found.is_ours() => Err("the container of that name is a user's".to_owned()),
                Some(found) if !found.state.running || found.state.restarting => Err(format!("it is {}", found.state.status)),
                Some(_) => Ok(()),
            }
        };
        let asked =
            status.ok_or_else(|| "hcl-firstboot is not running".to_owned()).and_then(|status| Asker::new(options, status));
        let ask = |name: &str, question: fn(&Asker) -> Result<(), String>| {
            running(name).and_then(|()| question(asked.as_ref().map_err(String::clone)?))
        };
        Self {
            image: images::find(&options.etc, IMAGE).is_ok_and(|found| found.is_some()),
            server: Kept::read(&kept::path(&options.state)).is_ok_and(|kept| kept.is_server()),
            join: ask(JOIN, Asker::join),
            manage: ask(MANAGE, Asker::manage),
        }
    }
}

/// Who asks: this node, and the user that it is.
struct Asker {
    trust: Trust,
    names: NodeNames,
    key: ClusterKey,
    /// Where *join* and *manage* are.
    ports: (u16, u16),
}

impl Asker {
    fn new(options: &Options, status: &Status) -> Result<Self, String> {
        let key = ClusterKey::read(&options.key).map_err(|error| error.to_string())?;
        let node = status.node.parse().map_err(str::to_owned)?;
        let address = status.address.ok_or("this node has no address yet")?;
        let names = NodeNames::new(node, address, &place::own_name(status)).map_err(|error| error.to_string())?;
        Ok(Self { trust: Trust::new(&key), names, key, ports: (JOIN_PORT, MANAGE_PORT) })
    }

    fn join(&self) -> Result<(), String> {
        let own = self.names.address();
        let seed = driver::random().map_err(|error| format!("random bytes: {error}"))?;
        let identity = self.trust.identity(self.names.clone(), &seed);
        let (at, wanted) = (SocketAddrV4::new(own, self.ports.0), Wanted::Node(self.names.node()));
        let connect = move |limit| {
            let stream = dial(own, at, limit)?;
            Ok(Box::new(identity.connect(stream, wanted, None, limit).map_err(std::io::Error::other)?) as Box<dyn Stream>)
        };
        pinged(&Client::over("it", connect))
    }

    fn manage(&self) -> Result<(), String> {
        let person = Person::new(&self.trust.users, &files::local_user(&self.key, &self.trust, &self.names));
        let person = person.map_err(|error| error.to_string())?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.1));
        let connect = move |limit| {
            let stream = TcpStream::connect_timeout(&at, limit)?;
            Ok(Box::new(person.connect(stream, "localhost", limit).map_err(std::io::Error::other)?) as Box<dyn Stream>)
        };
        pinged(&Client::over("it", connect))
    }
}

fn pinged(client: &Client) -> Result<(), String> {
    let asked: Result<_, http::Error> = client.request("GET", "/_ping", &[("Host", "localhost")], None, LIMIT);
    match asked.map_err(|error| error.to_string())? {
        answer if answer.is_success() => Ok(()),
        answer => Err(answer.text()),
    }
}

pub(super) fn join(seen: &Seen) -> Found {
    match &seen.join {
        _ if !seen.image => Ok(without()),
        Ok(()) => Ok(format!("{JOIN} runs, and leads the other nodes to this engine on port {JOIN_PORT}")),
        Err(wrong) => Err(format!(
            "{JOIN} does not lead the other nodes to this engine ({wrong}): `docker logs {JOIN}` says why, {RESTART} brings it back"
        )),
    }
}

pub(super) fn manage(seen: &Seen) -> Found {
    match &seen.manage {
        _ if !seen.image => Ok(without()),
        _ if !seen.server => Ok(format!("{MANAGE} runs on the servers, and this node is none: ask tcp://master:{MANAGE_PORT}")),
        Ok(()) => Ok(format!("{MANAGE} runs, and answers for the whole cluster on port {MANAGE_PORT}")),
        Err(wrong) => Err(format!(
            "{MANAGE} does not answer for the cluster on port {MANAGE_PORT} ({wrong}): `docker logs {MANAGE}` says why, {RESTART} brings it back"
        )),
    }
}

fn without() -> String {
    format!("this card was built without the image `{IMAGE}`, so that it has no part in a Docker endpoint of the cluster")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        process::{Command, Stdio},
        thread,
    };

    use super::*;
    use crate::{endpoint::files::Files, identity::NodeId, trust::Identity};

    /// A node on an address of the loopback interface.
    fn asker(ports: (u16, u16)) -> Asker {
        let key = ClusterKey::new([1; 32]);
        let names = NodeNames::new(NodeId([9; 16]), [127, 77, 0, 9].into(), "node-9").unwrap();
        Asker { trust: Trust::new(&key), names, key, ports }
    }

    /// What a node hears at the port of *join*, where `identity` answers one connection with `status`.
    fn joined(identity: Identity, status: &str) -> Result<(), String> {
        let listener = TcpListener::bind("127.77.0.9:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nOK");
        thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                let Ok(mut session) = identity.accept(stream, None, LIMIT) else { return };
                let asked = BufReader::new(&mut session).lines().map_while(Result::ok).find(String::is_empty);
                asked.and_then(|_| session.write_all(answer.as_bytes()).ok());
            });
            asker((port, 0)).join()
        })
    }

    #[test]
    fn a_node_asks_for_its_engine() {
        let node = asker((0, 0));
        let own = || node.trust.identity(node.names.clone(), &[7; 32]);
        assert_eq!(joined(own(), "200 OK"), Ok(()));
        assert_eq!(joined(own(), "502 Bad Gateway"), Err("OK".to_owned()));
        let names = NodeNames::new(NodeId([8; 16]), [127, 77, 0, 8].into(), "node-8").unwrap();
        let other = joined(node.trust.identity(names, &[7; 32]), "200 OK").unwrap_err();
        assert!(other.contains("it is node-8"), "{other}");
        let nobody = asker((1, 1)).join().unwrap_err();
        assert!(nobody.contains("refused"), "{nobody}");
    }

    #[test]
    fn a_user_asks_for_the_cluster() {
        let node = asker((0, 0));
        let folder = tempfile::tempdir().unwrap();
        Files::of_node(&node.key, &node.names, [127, 77, 0, 1].into()).lay(folder.path(), None).unwrap();
        let serve = |ca: &str| {
            let arguments = format!(
                "s_server -accept 127.0.0.1:0 -cert server.pem -key server-key.pem -CAfile {ca}.pem -Verify 1 -verify_return_error -www -naccept 1"
            );
            let mut server = Command::new("openssl");
            server.current_dir(folder.path()).args(arguments.split_whitespace()).stdin(Stdio::null()).stderr(Stdio::null());
            let mut server = server.stdout(Stdio::piped()).spawn().expect("openssl must be installed: apt-get install openssl");
            let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
            let at = lines.find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:").map(str::to_owned)).unwrap();
            let asked = asker((0, at.parse().unwrap())).manage();
            server.wait().unwrap();
            asked
        };
        assert_eq!(serve("users-ca"), Ok(()));
        // One that takes nodes for users.
        serve("nodes-ca").unwrap_err();
        let nobody = asker((1, 1)).manage().unwrap_err();
        assert!(nobody.contains("refused"), "{nobody}");
    }
}
