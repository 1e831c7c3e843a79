//! Answers that overtake each other.

use serde_json::json;

use super::{
    super::{
        listing::{Entry as _, Listed},
        table::Table,
    },
    *,
};

fn container(id: &str, state: &str) -> Arc<Container> {
    let raw = serde_json::value::to_raw_value(&json!({ "Id": id, "State": state })).unwrap();
    Arc::new(Listed::read(raw).unwrap().with(Details::default()))
}

fn states(table: &Table) -> Vec<String> {
    let mut states: Vec<_> = table.list().iter().map(|container| format!("{} {}", container.id, container.state)).collect();
    states.sort();
    states
}

#[test]
fn the_later_question_wins() {
    let mut table = Table::default();
    let (early, late) = (table.ticket(), table.ticket());
    assert!(table.put(late, "a", Some(container("a", "running"))));
    assert!(!table.put(early, "a", None));
    assert_eq!(states(&table), ["a running"]);
    let gone = table.ticket();
    assert!(table.put(gone, "a", None));
    assert!(!table.put(late, "a", Some(container("a", "running"))));
    assert!(table.list().is_empty());
}

#[test]
fn all_of_them_and_one_of_them() {
    let mut table = Table::default();
    let (early, all, late) = (table.ticket(), table.ticket(), table.ticket());
    // While everything was asked for, b ended, c was removed and d was made.
    assert!(table.put(late, "b", Some(container("b", "exited"))));
    assert!(!table.put(late, "c", None));
    assert!(table.put(late, "d", Some(container("d", "created"))));
    table.put_all(all, vec![container("a", "running"), container("b", "running"), container("c", "running")]);
    assert_eq!(states(&table), ["a running", "b exited", "d created"]);
    // An answer to an older question than all.
    assert!(!table.put(early, "a", None));
    assert_eq!(states(&table), ["a running", "b exited", "d created"]);
    let again = table.ticket();
    table.put_all(again, vec![container("d", "running")]);
    assert_eq!(states(&table), ["d running"]);
}
