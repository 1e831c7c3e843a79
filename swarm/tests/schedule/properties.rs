//! What holds for every cluster and every request.

use hcl_swarm::schedule::{Candidate, Expression, Family, Request, Strategy as Placing, Unplaceable, eligible, place};
use proptest::prelude::*;
use regex_lite::Regex;
use serde_json::Value;

use crate::{generate, naive};

fn placing() -> impl Strategy<Value = Placing> {
    prop_oneof![Just(Placing::Spread), Just(Placing::Binpack), Just(Placing::Random)]
}

fn take(body: &Value) -> Request {
    Request::take(&mut body.clone()).unwrap()
}

/// The body without its soft expressions.
fn without_soft(body: &Value) -> Value {
    let mut body = body.clone();
    body["Env"].as_array_mut().unwrap().retain(|entry| !entry.as_str().unwrap().contains("=~"));
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_place_satisfies_whatever_is_not_soft(
        body in generate::body(), nodes in generate::cluster(), strategy in placing(), random in any::<u64>()
    ) {
        let request = take(&body);
        let naively: Vec<usize> = (0..nodes.len()).filter(|index| naive::accepts(&body, &nodes[*index], false)).collect();
        let fits = |index: &usize| strategy == Placing::Random || naive::fullness(&body, &nodes[*index]).is_some();
        match place(&request, &nodes, strategy, random) {
            Ok(index) => {
                prop_assert!(naively.contains(&index), "{index} is none of {naively:?}");
                prop_assert!(fits(&index));
            }
            Err(Unplaceable::Resources) => prop_assert!(!naively.is_empty() && !naively.iter().any(fits)),
            Err(Unplaceable::Unhealthy) => prop_assert!(!nodes.iter().any(|node| node.healthy)),
            Err(Unplaceable::Conditions { .. }) => prop_assert!(naively.is_empty(), "{naively:?} would have done"),
        }
        // The same question has the same answer.
        prop_assert_eq!(place(&request, &nodes, strategy, random), place(&request, &nodes, strategy, random));
    }

    #[test]
    fn soft_expressions_cost_nothing_and_count_where_they_can(
        body in generate::body(), nodes in generate::cluster(), strategy in placing(), random in any::<u64>()
    ) {
        let (with, without) = (take(&body), take(&without_soft(&body)));
        let found = place(&with, &nodes, strategy, random);
        prop_assert_eq!(found.is_ok(), place(&without, &nodes, strategy, random).is_ok());
        let pleased = |node: &Candidate| naive::accepts(&body, node, true);
        let fits = |node: &Candidate| strategy == Placing::Random || naive::fullness(&body, node).is_some();
        if nodes.iter().any(|node| pleased(node) && fits(node)) {
            prop_assert!(pleased(&nodes[found.unwrap()]));
        }
    }

    #[test]
    fn all_that_are_eligible_are(body in generate::body(), nodes in generate::cluster()) {
        let naively = |soft| (0..nodes.len()).filter(|index| naive::accepts(&body, &nodes[*index], soft)).collect::<Vec<_>>();
        let expected = Some(naively(true)).filter(|soft| !soft.is_empty()).unwrap_or_else(|| naively(false));
        prop_assert_eq!(eligible(&take(&body), &nodes).unwrap_or_default(), expected);
    }

    #[test]
    fn spread_takes_the_emptiest_and_binpack_the_fullest(
        body in generate::body(), nodes in generate::cluster(), random in any::<u64>()
    ) {
        let request = take(&body);
        let rank = |index: &usize| naive::fullness(&body, &nodes[*index]).map(|share| (share, nodes[*index].containers.len()));
        let left = eligible(&request, &nodes).unwrap_or_default();
        // Without room on those that the soft expressions chose, the others are looked at.
        let left = if left.iter().any(|index| rank(index).is_some()) {
            left
        } else {
            (0..nodes.len()).filter(|index| naive::accepts(&body, &nodes[*index], false)).collect()
        };
        let ranks: Vec<_> = left.iter().filter_map(rank).collect();
        let of = |strategy| place(&request, &nodes, strategy, random).ok().and_then(|index| rank(&index));
        prop_assert_eq!(of(Placing::Spread), ranks.iter().min().copied());
        prop_assert_eq!(of(Placing::Binpack), ranks.iter().max().copied());
        if request.memory == 0 && request.nano_cpus == 0 {
            let fewest = left.iter().map(|index| nodes[*index].containers.len()).min();
            prop_assert_eq!(of(Placing::Spread).map(|(_, containers)| containers), fewest);
        }
    }

    #[test]
    fn taking_leaves_no_expression_behind(body in generate::body()) {
        let mut taken = body.clone();
        let request = Request::take(&mut taken).unwrap();
        let ours = |entry: &Value| ["constraint:", "affinity:"].iter().any(|prefix| entry.as_str().unwrap().starts_with(prefix));
        prop_assert!(!taken["Env"].as_array().unwrap().iter().any(ours));
        let rest = body["Env"].as_array().unwrap().iter().filter(|entry| !ours(entry)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(&taken["Env"], &Value::from(rest));
        for (label, prefix) in [("com.docker.swarm.constraints", "constraint:"), ("com.docker.swarm.affinities", "affinity:")] {
            let kept = taken["Labels"][label].as_str().map_or(Vec::new(), |text| serde_json::from_str::<Vec<String>>(text).unwrap());
            prop_assert_eq!(kept, naive::expressions(&body, prefix));
        }
        let mut again = taken.clone();
        prop_assert_eq!(Request::take(&mut again).unwrap(), request);
        prop_assert_eq!(again, taken);
    }

    #[test]
    fn bodies_of_any_shape_are_read_or_refused(body in generate::json(), nodes in generate::cluster(), random in any::<u64>()) {
        let mut taken = body.clone();
        match Request::take(&mut taken) {
            Ok(request) => {
                let _ = place(&request, &nodes, Placing::Spread, random).map_err(|error| error.to_string());
                let mut again = taken.clone();
                prop_assert_eq!(Request::take(&mut again).unwrap(), request);
                prop_assert_eq!(again, taken);
            }
            Err(error) => {
                prop_assert!(!error.to_string().contains('\n'));
                prop_assert_eq!(taken, body);
            }
        }
    }

    /// The expressions of classic Swarm's source, which ours only pretends to have.
    #[test]
    fn keys_and_values_are_those_of_classic_swarm(
        text in prop_oneof!["[a-c0-1_.\\-*=!~/ ]{0,8}", "[a-z_]{2,3}(==|!=)[a-z0-9:\\-_\\s.*/()?+\\[\\]\\\\^$|=!~,é\u{b}]{0,6}", ".{0,20}"]
    ) {
        let key = Regex::new(r"^(?i)[a-z_][a-z0-9\-_.]+$").unwrap();
        let value = Regex::new(r"^(?i)[=!\/]?(~)?[a-z0-9:\-_\s\.\*/\(\)\?\+\[\]\\\^\$\|]+$").unwrap();
        let split = text.split_once("==").or_else(|| text.split_once("!="));
        let expected = split.is_some_and(|(left, right)| key.is_match(left) && value.is_match(right) && !right.contains('\u{b}'));
        match Expression::parse(Family::Affinity, &text) {
            Ok(read) => {
                prop_assert!(expected, "{text:?} is no expression");
                let (left, right) = split.unwrap();
                prop_assert_eq!((read.key(), read.is_soft()), (left, right.starts_with('~')));
                prop_assert_eq!(read.value(), right.trim_start_matches('~'));
            }
            Err(error) => {
                // What is a regular expression is not said by the two above.
                let regex = error.to_string().contains("regular expression");
                prop_assert!(regex || !expected, "{text:?}: {error}");
                prop_assert!(error.to_string().contains(&error.expression) && error.family == Family::Affinity);
            }
        }
    }
}
