use std::time::Duration;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::*;
use crate::transport::tests::{certificates, run};

fn user(name: &str, seed: u8) -> User {
    let issued = certificates::user(&certificates::trust(1), name, seed);
    User::of(&CertificateDer::from(issued.certificate())).unwrap()
}

fn rules(name: &str, json: &str) -> BTreeMap<String, Rule> {
    [(name.to_owned(), serde_json::from_str(json).unwrap())].into()
}

#[test]
fn a_certificate_says_whose_it_is() {
    let issued = certificates::user(&certificates::trust(1), "gordon-2", 7);
    let user = User::of(&CertificateDer::from(issued.certificate())).unwrap();
    assert_eq!(user.name, "gordon-2");
    let expected: String = Sha256::digest(issued.certificate()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(user.fingerprint.as_str(), expected);
    // A node's has the name of a node.
    let node = certificates::node(&certificates::trust(1), [127, 0, 0, 1].into());
    assert_eq!(User::of(&CertificateDer::from(node.certificate())), Err(BadUser));
    for broken in [&[][..], &[0x30, 0x80], &issued.certificate()[..100]] {
        assert_eq!(User::of(&CertificateDer::from(broken)), Err(BadUser));
    }
}

#[test]
fn nobody_is_let_in_before_the_rules_are_known() {
    let users = Users::new();
    assert_eq!(users.admit(&user("gordon", 1)), Err(Refused::Unknown));
    users.set_rules(BTreeMap::new());
    assert_eq!(users.admit(&user("gordon", 1)), Ok(()));
}

#[test]
fn a_removed_name_and_its_new_certificates() {
    let users = Users::new();
    let (old, new) = (user("gordon", 1), user("gordon", 2));
    users.set_rules(rules("gordon", r#"{"removed":true,"kept":[],"added":[]}"#));
    assert_eq!(
        users.admit(&old).unwrap_err().to_string(),
        "user gordon was removed: ask for a new certificate (hcl user add gordon)"
    );
    assert_eq!(users.admit(&user("ada", 3)), Ok(()));
    let kept = format!(r#"{{"removed":true,"kept":["{}"],"added":[{{"fingerprint":"x"}}],"later":1}}"#, new.fingerprint);
    users.set_rules(rules("gordon", &kept));
    assert!(users.admit(&old).is_err());
    assert_eq!(users.admit(&new), Ok(()));
    users.set_rules(rules("gordon", r#"{"removed":false}"#));
    assert_eq!(users.admit(&old), Ok(()));
}

#[test]
fn who_is_here_hears_of_it() {
    run(async {
        let users = Users::new();
        users.set_rules(BTreeMap::new());
        let gordon = user("gordon", 1);
        let mut removed = std::pin::pin!(users.removed(&gordon));
        let moment = Duration::from_millis(50);
        assert!(timeout(moment, removed.as_mut()).await.is_err());
        users.set_rules(rules("ada", r#"{"removed":true}"#));
        assert!(timeout(moment, removed.as_mut()).await.is_err());
        users.set_rules(rules("gordon", r#"{"removed":true}"#));
        removed.await;
    });
}
