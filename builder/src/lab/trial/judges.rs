//! What the nodes' answers and the capture say of all nodes together.

use super::Plan;
use crate::lab::{
    CAPTURE, capture,
    cluster::{Speech, Standing},
    frame::{Header, Mac},
    probe::UNIQUE,
    report::Assertion,
};

/// What must differ between any two nodes.
pub(super) fn unique(assertions: &[Assertion], nodes: usize) -> Vec<Assertion> {
    if nodes < 2 {
        return Vec::new();
    }
    let check = |name: &str| {
        let mut seen: Vec<_> = assertions
            .iter()
            .filter(|assertion| assertion.name == name && assertion.passed)
            .map(|assertion| &assertion.seen)
            .collect();
        seen.sort();
        let count = seen.len();
        seen.dedup();
        Assertion {
            name: format!("{name} differs"),
            node: None,
            wanted: format!("no two nodes have the same {name}"),
            seen: format!("{} different ones of {count} nodes", seen.len()),
            passed: seen.len() == nodes,
            seconds: None,
        }
    };
    UNIQUE.into_iter().map(check).collect()
}

/// What the capture says of each node.
pub(super) fn on_the_wire(
    plan: &Plan,
    nodes: &[(String, Mac)],
    standings: Vec<Option<Standing>>,
) -> anyhow::Result<Vec<Assertion>> {
    let mut speech = Speech::new(plan.vlan);
    let mut counts = vec![(0_u64, 0_u64); nodes.len()];
    capture::read(&plan.spec.folder.join(CAPTURE), |sighting| {
        if !sighting.inbound {
            return;
        }
        let Some(node) = nodes.iter().position(|(name, _)| *name == sighting.port) else { return };
        let Some(header) = Header::parse(&sighting.frame) else { return };
        if header.source == nodes[node].1 {
            speech.hear(&sighting.frame);
        }
        match header.vlan {
            Some(vlan) if header.source == nodes[node].1 && vlan.number() == plan.vlan => counts[node].0 += 1,
            Some(_) => counts[node].1 += 1,
            None => {}
        }
    })?;
    let mut assertions = Vec::new();
    for ((name, mac), (ours, others)) in nodes.iter().zip(counts) {
        assertions.push(Assertion {
            name: "VLAN on the wire".into(),
            node: Some(name.clone()),
            wanted: format!("the switch took frames tagged {} from {mac}", plan.vlan),
            seen: format!("{ours} frames"),
            passed: ours > 0,
            seconds: None,
        });
        assertions.push(Assertion {
            name: "no other VLAN".into(),
            node: Some(name.clone()),
            wanted: "no frame with another tag or another sender's address".into(),
            seen: format!("{others} frames"),
            passed: others == 0,
            seconds: None,
        });
    }
    let nodes: Vec<_> = nodes.iter().map(|(_, mac)| *mac).zip(standings).collect();
    assertions.extend(speech.judge(&nodes));
    Ok(assertions)
}
