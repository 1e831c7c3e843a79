use super::*;
use crate::lab::frame::compose;

const ALL: Mac = Mac([0xff; 6]);
const V200: Option<VlanId> = VlanId::new(200);
const V300: Option<VlanId> = VlanId::new(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Four ports, all with a link since second 0.
fn switch() -> Switch {
    let mut switch = Switch::new(7);
    for port in 0..4 {
        let id = switch.add_port(format!("port{port}"));
        switch.link_up(seconds(0), id);
    }
    switch
}

fn exits(verdict: &Verdict) -> Vec<usize> {
    verdict.exits.iter().map(|exit| exit.port.0).collect()
}

/// Each row: time, port in, source node, destination node (0 = broadcast), VLAN, ports out.
type Row = (u64, usize, u16, u16, Option<VlanId>, &'static [usize]);

#[test]
fn learns_per_vlan_and_forgets() {
    let mut switch = switch();
    let rows: &[Row] = &[
        (0, 0, 10, 0, None, &[1, 2, 3]),
        // Learned: straight back to port 0.
        (1, 1, 11, 10, None, &[0]),
        (1, 0, 10, 11, None, &[1]),
        // Unknown in VLAN 200, although known untagged: flooded.
        (2, 1, 11, 10, V200, &[0, 2, 3]),
        (2, 0, 10, 11, V200, &[1]),
        // The destination sits where the frame came from: nowhere to go.
        (3, 1, 12, 11, None, &[]),
        // The station moved to port 3.
        (4, 3, 10, 0, None, &[0, 1, 2]),
        (5, 1, 11, 10, None, &[3]),
        // Aged out.
        (400, 2, 12, 10, None, &[0, 1, 3]),
    ];
    for (index, (at, from, source, destination, vlan, expected)) in rows.iter().enumerate() {
        let destination = if *destination == 0 { ALL } else { Mac::of_node(*destination) };
        let frame = compose(destination, Mac::of_node(*source), *vlan, 0x0800, &[]);
        let verdict = switch.forward(seconds(*at), PortId(*from), &frame);
        assert_eq!(&exits(&verdict), expected, "row {index}");
    }
}

#[test]
fn membership_filters_both_ways() {
    let mut switch = switch();
    let only =
        |untagged, vlans: &[u16]| Membership::Only { untagged, vlans: vlans.iter().filter_map(|id| VlanId::new(*id)).collect() };
    switch.port_mut(PortId(1)).unwrap().membership = only(true, &[]);
    switch.port_mut(PortId(2)).unwrap().membership = only(false, &[200]);
    for (from, vlan, expected) in [
        (0, None, &[1, 3][..]),
        (0, V200, &[2, 3]),
        (0, V300, &[3]),
        (1, None, &[0, 3]),
        (1, V200, &[]),
        (2, V200, &[0, 3]),
        (2, None, &[]),
    ] {
        let frame = compose(ALL, Mac::of_node(from as u16 + 1), vlan, 0x0800, &[]);
        assert_eq!(exits(&switch.forward(seconds(1), PortId(from), &frame)), expected, "{from} {vlan:?}");
    }
}

#[test]
fn faults() {
    let frame = |vlan| compose(ALL, Mac::of_node(1), vlan, 0x0800, &[]);
    let mut bad = switch();
    bad.port_mut(PortId(1)).unwrap().faults.cut = true;
    bad.port_mut(PortId(2)).unwrap().faults.mute = seconds(30);
    bad.port_mut(PortId(3)).unwrap().faults.drops_tagged = true;

    let verdict = bad.forward(seconds(29), PortId(0), &frame(V200));
    assert_eq!(exits(&verdict), &[] as &[usize]);
    assert_eq!(verdict.lost, [(PortId(1), Loss::Cut), (PortId(2), Loss::Mute), (PortId(3), Loss::Tagged)]);
    assert_eq!(exits(&bad.forward(seconds(30), PortId(0), &frame(None))), [2, 3]);

    for (from, at, vlan, refused) in [
        (1, 40, None, Some(Loss::Cut)),
        (2, 29, None, Some(Loss::Mute)),
        (2, 30, None, None),
        (3, 40, V200, Some(Loss::Tagged)),
        (3, 40, None, None),
    ] {
        assert_eq!(bad.forward(seconds(at), PortId(from), &frame(vlan)).refused, refused, "{from} {at}");
    }

    // The mute time counts from the link, not from the start of the lab.
    bad.link_down(PortId(2));
    assert_eq!(bad.forward(seconds(50), PortId(2), &frame(None)).refused, Some(Loss::NoLink));
    bad.link_up(seconds(60), PortId(2));
    assert_eq!(bad.forward(seconds(89), PortId(2), &frame(None)).refused, Some(Loss::Mute));
    assert_eq!(bad.forward(seconds(90), PortId(2), &frame(None)).refused, None);
}

#[test]
fn islands_do_not_hear_each_other() {
    let mut switch = switch();
    for (port, island) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        switch.port_mut(PortId(port)).unwrap().island = island;
    }
    let frame = compose(ALL, Mac::of_node(1), None, 0x0800, &[]);
    assert_eq!(exits(&switch.forward(seconds(1), PortId(0), &frame)), [1]);
    assert_eq!(exits(&switch.forward(seconds(1), PortId(3), &frame)), [2]);
    for port in 0..4 {
        switch.port_mut(PortId(port)).unwrap().island = 0;
    }
    switch.forget();
    assert_eq!(exits(&switch.forward(seconds(2), PortId(0), &frame)), [1, 2, 3]);
}

#[test]
fn spanning_tree_is_not_forwarded_and_short_frames_are_refused() {
    let mut switch = switch();
    let bpdu = compose(Mac([0x01, 0x80, 0xc2, 0, 0, 0]), Mac::of_node(1), None, 0x0026, &[]);
    assert_eq!(switch.forward(seconds(1), PortId(0), &bpdu).refused, Some(Loss::LinkLocal));
    assert_eq!(switch.forward(seconds(1), PortId(0), &bpdu[..13]).refused, Some(Loss::Malformed));
    assert_eq!(switch.forward(seconds(1), PortId(0), &[]).refused, Some(Loss::Malformed));
}

#[test]
fn loss_and_delay_come_from_the_seed() {
    let run = |seed| {
        let mut switch = Switch::new(seed);
        for port in 0..2 {
            let id = switch.add_port(format!("port{port}"));
            switch.link_up(seconds(0), id);
        }
        let faults = &mut switch.port_mut(PortId(1)).unwrap().faults;
        faults.loss = 0.25;
        faults.delay = Duration::from_millis(20);
        faults.jitter = Duration::from_millis(10);
        let frame = compose(ALL, Mac::of_node(1), None, 0x0800, &[]);
        (0..1000).map(|_| switch.forward(seconds(1), PortId(0), &frame)).collect::<Vec<_>>()
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    let passed: Vec<_> = first.iter().flat_map(|verdict| &verdict.exits).collect();
    assert!((700..800).contains(&passed.len()), "{} of 1000 passed at 25 % loss", passed.len());
    assert!(passed.iter().all(|exit| (20..30).contains(&exit.after.as_millis())));
}

#[test]
fn the_table_is_bounded() {
    let mut switch = switch();
    for station in 0..3 * TABLE as u32 {
        let [_, a, b, c] = station.to_be_bytes();
        let frame = compose(ALL, Mac([2, 0, 0, a, b, c]), None, 0x0800, &[]);
        switch.forward(seconds(1), PortId(0), &frame);
    }
    assert_eq!(switch.table.len(), TABLE);
    // After the ageing time there is room again.
    switch.forward(seconds(400), PortId(1), &compose(ALL, Mac::of_node(1), None, 0x0800, &[]));
    assert_eq!(switch.table.len(), 1);
}
