//! Where the engine's networks get their addresses from: neither out of the cluster's subnet nor, where that can be, out of the
//! home's.

use std::net::Ipv4Addr;

use super::Subnet;

/// For networks on a node, as its bridges are; the first is where the engine's own choice starts. The second does not overlap it.
const CONTAINERS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 17, 0, 0), Ipv4Addr::new(172, 30, 0, 0)];
/// For overlay networks. The engine's own choice is all of 10.0.0.0/8 from its start, where home networks are.
const OVERLAYS: [Ipv4Addr; 3] = [Ipv4Addr::new(10, 200, 0, 0), Ipv4Addr::new(10, 216, 0, 0), Ipv4Addr::new(172, 28, 0, 0)];
/// The length of all these prefixes: 256 networks of /24.
const PREFIX: u8 = 16;
/// The length of the prefix of each network made from a pool.
pub const NETWORK_PREFIX: u8 = 24;

/// The pool for networks on a node.
pub fn containers(cluster: Subnet) -> Subnet {
    free(&CONTAINERS, &[(cluster.network(), cluster.prefix())])
}

/// The pool for overlay networks; `taken` are addresses on networks of the node's, with the lengths of their prefixes.
pub fn overlays(taken: &[(Ipv4Addr, u8)]) -> Subnet {
    free(&OVERLAYS, taken)
}

/// The first that overlaps with nothing. Where all do, which takes as many networks, the last: it is in use at the edge only.
fn free(pools: &[Ipv4Addr], taken: &[(Ipv4Addr, u8)]) -> Subnet {
    let overlaps = |pool: Ipv4Addr, (address, prefix): (Ipv4Addr, u8)| {
        let shorter = u32::MAX.checked_shl(32 - u32::from(prefix.min(PREFIX))).unwrap_or(0);
        (u32::from(pool) ^ u32::from(address)) & shorter == 0
    };
    let found = pools.iter().find(|pool| !taken.iter().any(|taken| overlaps(**pool, *taken)));
    let pool = found.or(pools.last()).copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    Subnet::new(pool, PREFIX).expect("pools are private, their host bits zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_free() {
        let cluster = |text: &str| containers(text.parse().unwrap()).to_string();
        assert_eq!(cluster("192.168.200.0/24"), "172.17.0.0/16");
        assert_eq!(cluster("172.17.5.0/28"), "172.30.0.0/16");
        assert_eq!(cluster("172.18.0.0/16"), "172.17.0.0/16");
        let taken = |networks: &[([u8; 4], u8)]| {
            let networks: Vec<_> = networks.iter().map(|(address, prefix)| (Ipv4Addr::from(*address), *prefix)).collect();
            overlays(&networks).to_string()
        };
        assert_eq!(taken(&[([192, 168, 200, 10], 24), ([10, 0, 0, 5], 24)]), "10.200.0.0/16");
        assert_eq!(taken(&[([10, 200, 7, 5], 24)]), "10.216.0.0/16");
        assert_eq!(taken(&[([10, 1, 2, 3], 8)]), "172.28.0.0/16");
        assert_eq!(taken(&[([10, 1, 2, 3], 0)]), "172.28.0.0/16", "all of it is taken");
    }

    #[test]
    fn no_pool_is_in_another() {
        let all = || CONTAINERS.iter().chain(&OVERLAYS);
        for (index, pool) in all().enumerate() {
            let free = free(std::slice::from_ref(pool), &[]);
            assert!(all().skip(index + 1).all(|other| !free.contains(*other)), "{pool}");
        }
    }
}
