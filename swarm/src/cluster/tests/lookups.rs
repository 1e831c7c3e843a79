//! Which container is meant.

use super::*;

#[test]
fn a_container_by_anything_that_means_it() {
    run(async {
        let (one, mut two) = (Fake::start("node-1"), Fake::start("node-2"));
        let (a, b, c) = (id('a'), format!("ab{}", "0".repeat(62)), format!("ac{}", "0".repeat(62)));
        one.add_container(&a, "web", "running");
        one.add_container(&b, "aaaa", "running");
        two.add_container(&c, "db", "exited");
        let cluster = cluster(&[&one, &two]).await;
        cluster.set_master(Some("node-2".to_owned()));
        let found = |reference: &str| cluster.container(reference).map(|(engine, id)| (engine.name.clone(), id));
        let on = |node: &str, id: &str| Ok((node.to_owned(), id.to_owned()));
        for (reference, node, id) in [
            (a.as_str(), "node-1", &a),
            ("web", "node-1", &a),
            ("/web", "node-1", &a),
            ("node-1/web", "node-1", &a),
            ("/node-1/web", "node-1", &a),
            ("node-1/aaaaa", "node-1", &a),
            ("aaaaa", "node-1", &a),
            // A name comes before the beginning of an id.
            ("aaaa", "node-1", &b),
            ("ab", "node-1", &b),
            ("node-2/a", "node-2", &c),
            ("master/db", "node-2", &c),
            ("ID-node-2/db", "node-2", &c),
        ] {
            assert_eq!(found(reference), on(node, id), "{reference}");
        }
        for none in
            ["", "/", "web2", "node-2/web", "node-3/web", "node-1/", "b", "node-1/web/x", &id('f'), &a[..63].replace('a', "b")]
        {
            assert_eq!(found(none), Err(Lookup::NotFound(none.to_owned())));
        }
        assert_eq!(found("a").unwrap_err().to_string(), "multiple IDs found with provided prefix: a");
        assert_eq!(found("node-1/a").unwrap_err(), Lookup::Prefix("node-1/a".to_owned()));
        assert_eq!(found("web2").unwrap_err().to_string(), "No such container: web2");

        // Made behind our back.
        two.add_container(&id('e'), "web", "running");
        cluster.refresh_container(&cluster.engine("node-2").unwrap(), &id('e')).await.unwrap();
        let error = found("web").unwrap_err();
        assert_eq!(error.to_string(), "Container name web is ambiguous: say node-1/web or node-2/web");
        assert_eq!(found("node-2/web"), on("node-2", &id('e')));
        two.stop();
        until(|| !cluster.engine("node-2").unwrap().snapshot().is_healthy()).await;
        assert_eq!(found("web"), on("node-1", &a), "the one that answers");
    });
}
