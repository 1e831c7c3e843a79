//! Packet sockets (packet(7)): whole Ethernet frames of one interface. All `unsafe` code of the program is in this file, since
//! neither the standard library nor `rustix` knows these sockets' addresses and options.

use std::{
    io,
    mem::{MaybeUninit, size_of, zeroed},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use libc::{c_int, c_void, sock_filter, sock_fprog};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::wire::MDNS_MAC;

/// `ETH_P_ALL` of linux/if_ether.h, in network byte order as the kernel wants it.
const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();

/// A packet socket on one interface, non-blocking.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

/// What the kernel tells of a frame that it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// Whether this machine sent it.
    pub outgoing: bool,
    /// The id of the VLAN in its tag, which is not in the bytes any more. A tag with id 0 is only a priority.
    pub vlan: Option<u16>,
    /// Whether the checksum of what it carries was left to a device that never saw it, as between the ends of a veth pair.
    pub no_checksum: bool,
}

impl PacketSocket {
    /// Takes every frame that comes to interface `index`.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        let socket = Self::unbound()?;
        socket.bind(index)?;
        Ok(socket)
    }

    /// Takes ARP and UDP to one of `ports` alone, and what goes to the group of mDNS too.
    pub(super) fn open_for(index: u32, ports: &[u16]) -> io::Result<Self> {
        let socket = Self::unbound()?;
        // Before the binding: until then nothing comes in.
        attach(socket.as_fd(), &filter(ports))?;
        let mut group = libc::packet_mreq {
            mr_ifindex: index as c_int,
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: [0; 8],
        };
        group.mr_address[..6].copy_from_slice(&MDNS_MAC.0);
        set(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &group)?;
        socket.bind(index)?;
        Ok(socket)
    }

    fn unbound() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        set(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        // Kernels before 4.20 do not know this; `Frame::outgoing` is there on all of them.
        let _ = set(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32);
        Ok(Self(socket))
    }

    fn bind(&self, index: u32) -> io::Result<()> {
        // SAFETY: all zeros are a valid `sockaddr_ll`: it has only integers.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ALL_PROTOCOLS;
        address.sll_ifindex = index as c_int;
        // SAFETY: the pointer is to a live `sockaddr_ll` of the length given; the kernel only reads it.
        let done = unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame, if one is waiting.
    ///
    /// # Errors
    ///
    /// What the system says; `ENETDOWN` once when the interface was set down.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Frame>> {
        /// Room for one control message, aligned as its header.
        #[repr(C, align(8))]
        struct Control([MaybeUninit<u8>; 128]);

        let mut control = Control([MaybeUninit::uninit(); 128]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zeros are valid for both: they have only integers and pointers.
        let (mut address, mut header): (libc::sockaddr_ll, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        header.msg_name = (&raw mut address).cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        // SAFETY: every pointer in `header` is to a live, writable place of the length beside it, all until the end of this function.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
        let mut frame = Frame { length, outgoing, vlan: None, no_checksum: false };
        // SAFETY: `header` is as the kernel left it, its control buffer is alive and aligned. The macros stay within what the
        // kernel wrote, and a message of this level and type holds a `tpacket_auxdata`, read unaligned.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&raw const header);
            while !message.is_null() {
                if (*message).cmsg_level == libc::SOL_PACKET && (*message).cmsg_type == libc::PACKET_AUXDATA {
                    let told: libc::tpacket_auxdata = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    if told.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        frame.vlan = Some(told.tp_vlan_tci & 0xfff);
                    }
                    frame.no_checksum = told.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        Ok(Some(frame))
    }

    /// Sends a frame as it is.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, frame, rustix::net::SendFlags::empty())?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Holds UDP `port` on `interface` and drops all that comes, so that the kernel tells nobody that the port is closed: packet
/// sockets do not count for it.
pub(super) fn sink(interface: &str, port: u16) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
    // A DHCP client of the home network on the same interface binds its own address, and gets what comes for it.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    attach(socket.as_fd(), &[statement(libc::BPF_RET | libc::BPF_K, 0)])?;
    set_bytes(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, interface.as_bytes())?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    Ok(socket)
}

/// Gives a socket a filter (classic BPF, Documentation/networking/filter.rst).
fn attach(socket: BorrowedFd<'_>, program: &[sock_filter]) -> io::Result<()> {
    let program = sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // The kernel copies the program before the call returns.
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Lets in ARP, and UDP over IPv4 to one of `ports`; untagged and not ours.
fn filter(ports: &[u16]) -> Vec<sock_filter> {
    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
        BPF_W,
    };
    // Where the kernel keeps what it knows of a frame beside its bytes (linux/filter.h).
    const ANCILLARY: u32 = -0x1000_i32 as u32;
    const PACKET_TYPE: u32 = ANCILLARY + 4;
    const VLAN_TAG: u32 = ANCILLARY + 44;
    const VLAN_TAG_PRESENT: u32 = ANCILLARY + 48;
    // A jump is over so many instructions, when the condition holds and when not; these two become the last instructions.
    const ACCEPT: u8 = 254;
    const DROP: u8 = 255;
    let load = |size, place| (BPF_LD | size | BPF_ABS, place, 0, 0);
    let equal = |value, yes, no| (BPF_JMP | BPF_JEQ | BPF_K, value, yes, no);
    let mut program = vec![
        load(BPF_W, PACKET_TYPE),
        equal(libc::PACKET_OUTGOING.into(), DROP, 0),
        load(BPF_W, VLAN_TAG_PRESENT),
        equal(0, 3, 0),
        load(BPF_W, VLAN_TAG),
        (BPF_ALU | BPF_AND | BPF_K, 0xfff, 0, 0),
        equal(0, 0, DROP),
        load(BPF_H, 12),
        equal(libc::ETH_P_ARP as u32, ACCEPT, 0),
        equal(libc::ETH_P_IP as u32, 0, DROP),
        load(BPF_B, 23),
        equal(libc::IPPROTO_UDP as u32, 0, DROP),
        // Later fragments have no ports.
        load(BPF_H, 20),
        (BPF_JMP | BPF_JSET | BPF_K, 0x1fff, DROP, 0),
        (BPF_LDX | BPF_B | BPF_MSH, 14, 0, 0),
        (BPF_LD | BPF_H | BPF_IND, 16, 0, 0),
    ];
    program.extend(ports.iter().map(|port| equal((*port).into(), ACCEPT, 0)));
    let end = program.len();
    program.extend([(BPF_RET | BPF_K, 0, 0, 0), (BPF_RET | BPF_K, u32::MAX, 0, 0)]);
    let over = |from: usize, jump: u8| match jump {
        DROP => (end - from - 1) as u8,
        ACCEPT => (end - from) as u8,
        near => near,
    };
    let placed = program.into_iter().enumerate();
    placed
        .map(|(place, (code, k, yes, no))| sock_filter { code: code as u16, jt: over(place, yes), jf: over(place, no), k })
        .collect()
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Sets a socket option to a plain value of the C interface.
fn set<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    set_raw(socket, level, name, ptr::from_ref(value).cast(), size_of::<T>())
}

fn set_bytes(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    set_raw(socket, level, name, value.as_ptr().cast(), value.len())
}

fn set_raw(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: *const c_void, length: usize) -> io::Result<()> {
    // SAFETY: both callers made pointer and length of one live reference; the kernel only reads that much.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length as u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
