//! Asks Consul's DNS on a node for SRV records (RFC 2782), as HAProxy does.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

/// The ports that a service has, in order; none where the name is not known or nobody answers.
pub fn ports(service: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = ask(&format!("_{service}._tcp.service.consul"), Some(8192)).unwrap_or_default();
    ports.sort_unstable();
    ports
}

/// The ports of the SRV records of a name; `size` is how much the answer may be (EDNS, RFC 6891), 512 bytes where nothing is said.
pub fn ask(name: &str, size: Option<u16>) -> Option<Vec<u16>> {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(size.is_some())];
    for label in name.split('.') {
        question.push(label.len().try_into().ok()?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 33, 0, 1]);
    if let Some(size) = size {
        question.extend_from_slice(&[0, 0, 41]);
        question.extend_from_slice(&size.to_be_bytes());
        question.extend_from_slice(&[0; 6]);
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    socket.send_to(&question, (Ipv4Addr::LOCALHOST, 8600)).ok()?;
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer).ok()?;
    Some(answers(answer.get(..length)?).unwrap_or_default())
}

fn answers(answer: &[u8]) -> Option<Vec<u16>> {
    let count = u16::from_be_bytes(answer.get(6..8)?.try_into().ok()?);
    let mut at = after_name(answer, 12)? + 4;
    let mut ports = Vec::new();
    for _ in 0..count {
        let fields = after_name(answer, at)?;
        let number = |offset: usize| Some(u16::from_be_bytes(answer.get(fields + offset..fields + offset + 2)?.try_into().ok()?));
        if number(0)? == 33 {
            // Priority, weight, port.
            ports.push(number(14)?);
        }
        at = fields + 10 + usize::from(number(8)?);
    }
    Some(ports)
}

fn after_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}
