//! Tells a new router which addresses the nodes of a snapshot have.
//!
//! The nodes go on with the addresses that the former router gave them, and the new one knows of none: it would give the first of them to
//! the next node that asks. So each address is asked for once more in its node's name, on its node's port, before the node itself is
//! plugged in there. The router's answer is seen by the lab as any other lease is.

use std::{
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use dhcproto::{
    Encodable,
    v4::{DhcpOption, Message, MessageType},
};
use etherparse::PacketBuilder;

use super::{
    frame::{Mac, compose},
    link::{Link, Received},
    snoop::{self, Lease},
};

/// The router may still be starting; it then hears the next question.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the router is asked.
const LIMIT: Duration = Duration::from_secs(30);
/// An IPv4 EtherType (RFC 894).
const IPV4: u16 = 0x0800;

/// Asks on the switch port `wire` for `address` in the name of `client`, until the router has acknowledged it.
///
/// # Errors
///
/// Nobody listens at `wire`, or the router does not give that address.
pub fn renew(wire: &Path, client: Mac, address: Ipv4Addr) -> anyhow::Result<()> {
    let context = || format!("asking the router for {address} again");
    let stream = UnixStream::connect(wire).with_context(context)?;
    let mut link = Link::new(stream).with_context(context)?;
    let question: Arc<[u8]> = request(client, address)?.into();
    let wanted = Lease { client, address };
    let deadline = Instant::now() + LIMIT;
    let mut asked: Option<Instant> = None;
    while Instant::now() < deadline {
        if asked.is_none_or(|at| at.elapsed() >= AGAIN) {
            asked = Some(Instant::now());
            link.queue(question.clone());
        }
        let mut given = false;
        let alive = link.send() && link.receive(|frame| given |= snoop::acknowledged(frame) == Some(wanted)) == Received::Open;
        if given {
            return Ok(());
        }
        if !alive {
            bail!("the switch closed {} while the router was asked for {address}", wire.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the router does not give {address} to {client} again")
}

/// A DHCPREQUEST as of a client that remembers its address after a reboot (RFC 2131, 4.3.2, INIT-REBOOT).
fn request(client: Mac, address: Ipv4Addr) -> anyhow::Result<Vec<u8>> {
    let mut message = Message::default();
    message.set_chaddr(&client.0);
    // Not random: nobody else asks in this client's name.
    message.set_xid(u32::from(address));
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
    let mut packet = Vec::new();
    PacketBuilder::ipv4([0; 4], [255; 4], 64).udp(68, 67).write(&mut packet, &message.to_vec()?)?;
    Ok(compose(Mac([0xff; 6]), client, None, IPV4, &packet))
}
