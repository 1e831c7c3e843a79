//! IPv4 addresses of interfaces: which there are, and ours.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage, CacheInfo},
};
use rustix::io::Errno;

use super::{Kernel, message::RtMessage};
use crate::config::Subnet;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) struct Assigned {
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
}

impl Kernel {
    /// All IPv4 addresses there are, loopback's left out.
    pub(in crate::driver) fn addresses(&mut self) -> io::Result<Vec<Assigned>> {
        let mut found = Vec::new();
        let mut question = AddressMessage::default();
        question.header.family = AddressFamily::Inet;
        self.request(RtMessage::GetAddress(question), NLM_F_DUMP, |message| {
            if let RtMessage::NewAddress(message) = message {
                found.extend(assigned(&message).filter(|assigned| !assigned.address.is_loopback()));
            }
        })?;
        Ok(found)
    }

    /// Gives interface `index` an address, or more time for it, with this prefix alone. The kernel counts whole seconds; a part of one
    /// is not given.
    pub(in crate::driver) fn set_address(&mut self, given: Assigned, valid_for: Option<Duration>) -> io::Result<()> {
        let seconds = match valid_for {
            // The kernel's word for no end.
            None => u32::MAX,
            Some(time) => u32::try_from(time.as_secs()).unwrap_or(u32::MAX - 1),
        };
        if seconds == 0 {
            return self.drop_address(given.index, given.address);
        }
        let hosts = u32::MAX.checked_shr(given.prefix.into()).unwrap_or(0);
        let mut times = CacheInfo::default();
        (times.ifa_valid, times.ifa_preferred) = (seconds, seconds);
        let mut message = of(given.index, given.address);
        message.header.prefix_len = given.prefix;
        message.attributes.extend([AddressAttribute::Address(IpAddr::V4(given.address)), AddressAttribute::CacheInfo(times)]);
        // Else the kernel would take what is sent to it for a broadcast.
        if hosts != 0 {
            message.attributes.push(AddressAttribute::Broadcast(Ipv4Addr::from(u32::from(given.address) | hosts)));
        }
        self.change(RtMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)?;
        let same = (given.index, given.address);
        self.drop_where(|found| (found.index, found.address) == same && found.prefix != given.prefix)
    }

    /// Takes an address from interface `index`; done as well where it has none or is gone itself.
    pub(in crate::driver) fn drop_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        self.drop_where(|found| (found.index, found.address) == (index, address))
    }

    /// Takes all addresses of `subnet` from interface `index`, also those that an earlier run of the program gave.
    pub(in crate::driver) fn drop_addresses(&mut self, index: u32, subnet: Subnet) -> io::Result<()> {
        self.drop_where(|found| found.index == index && subnet.contains(found.address))
    }

    /// Takes away the addresses that are `wanted` gone. To the kernel an address with another prefix is another address.
    fn drop_where(&mut self, wanted: impl Fn(&Assigned) -> bool) -> io::Result<()> {
        for found in self.addresses()?.into_iter().filter(wanted) {
            let mut message = of(found.index, found.address);
            message.header.prefix_len = found.prefix;
            // With this the kernel looks at the prefix.
            message.attributes.push(AddressAttribute::Address(IpAddr::V4(found.address)));
            match self.change(RtMessage::DelAddress(message), 0) {
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::ADDRNOTAVAIL | Errno::NODEV)) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

fn of(index: u32, address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message
}

fn assigned(message: &AddressMessage) -> Option<Assigned> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some(Assigned { index: message.header.index, address, prefix: message.header.prefix_len })
}
