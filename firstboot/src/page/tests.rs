use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::net::UnixListener,
    path::Path,
    thread,
};

use super::*;
use crate::view::Node;

fn request(method: &str, target: &str) -> Request {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    Request {
        method: method.into(),
        path: path.into(),
        query,
        host: Some("node-a.local:8500".into()),
        fields: Vec::new(),
        body: Vec::new(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn page(socket: &Path) -> Page {
    let page = Page::new("lab", "node-a", Client::unix(socket));
    let node = |name: &str| Node { name: name.into(), ..Node::default() };
    page.show(View { served_by: "node-a".into(), nodes: vec![node("node-a"), node("node-b")], ..View::default() });
    page
}

fn alone() -> Page {
    page(Path::new("/nonexistent/consul.sock"))
}

fn text(response: &Response) -> String {
    String::from_utf8(response.body.clone()).unwrap()
}

#[test]
fn its_files() {
    let page = alone();
    for (path, kind, content) in FILES {
        let response = page.answer(&request("GET", path));
        assert_eq!((response.status, response.field("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(text(&response), content);
        let tag = response.field("etag").unwrap().to_owned();
        let mut again = request("GET", path);
        again.fields.push(("If-None-Match".into(), format!("\"x\", W/{tag}")));
        assert_eq!(page.answer(&again).status, 304);
        again.fields[0].1 = "\"x\"".into();
        assert_eq!(page.answer(&again).status, 200);
    }
}

/// A browser would refuse it, and so do we, before it gets there.
#[test]
fn nothing_in_them_is_inline_or_from_elsewhere() {
    for (path, _, content) in FILES {
        for forbidden in [" style=", " onclick=", "<style", "javascript:", "innerHTML", "https://", "//cdn", "@import", "eval("] {
            assert!(!content.contains(forbidden), "{path} has {forbidden}");
        }
        let urls = content.matches("http://").count() - content.matches("http://www.w3.org/2000/svg").count();
        let links = content.matches("`http://${").count();
        assert_eq!(urls, links, "{path}: only links to nodes and the name of SVG");
        for script in content.match_indices("<script") {
            assert!(content[script.0..].starts_with("<script src=\"/page.js\""), "{path}");
        }
    }
}

#[test]
fn every_answer_is_guarded() {
    let page = alone();
    let mut foreign = request("GET", "/");
    foreign.host = Some("evil.example".into());
    let all = [
        request("GET", "/"),
        request("HEAD", "/page.js"),
        request("GET", "/api/cluster"),
        request("GET", "/nothing"),
        request("GET", "/v1/kv/a"),
        request("GET", "/v1/catalog/nodes"),
        request("GET", "/ui/"),
        request("GET", "/ui"),
        request("POST", "/"),
        foreign,
    ];
    for asked in all {
        let response = page.answer(&asked);
        let what = format!("{} {}", asked.method, asked.path);
        assert_eq!(response.field("x-content-type-options"), Some("nosniff"), "{what}");
        assert_eq!(response.field("x-frame-options"), Some("DENY"), "{what}");
        assert_eq!(response.field("content-security-policy"), Some(POLICY), "{what}");
        assert_eq!(response.field("access-control-allow-origin"), None, "{what}");
    }
}

#[test]
fn it_shows_and_changes_nothing() {
    let page = alone();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"] {
        for path in ["/", "/api/cluster", "/v1/catalog/nodes", "/v1/kv/a", "/ui/", "*"] {
            let response = page.answer(&request(method, path));
            assert_eq!((response.status, response.field("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
}

#[test]
fn only_names_of_the_cluster() {
    let page = alone();
    for (host, status) in [
        (Some("node-b"), 200),
        (Some("master.local:8500"), 200),
        (Some("192.168.1.7:8500"), 200),
        (Some("node-c.local"), 421),
        (Some("rebind.example:8500"), 421),
        (None, 421),
    ] {
        for path in ["/", "/api/cluster"] {
            let asked = Request { host: host.map(str::to_owned), ..request("GET", path) };
            assert_eq!(page.answer(&asked).status, status, "{host:?}");
        }
    }
    // Before anything is known of others its own name counts.
    let young = Page::new("lab", "node-a", Client::unix("/nonexistent"));
    assert_eq!(young.answer(&request("GET", "/")).status, 200);
}

#[test]
fn the_view_says_how_old_it_is() {
    let page = alone();
    thread::sleep(std::time::Duration::from_millis(30));
    let response = page.answer(&request("GET", "/api/cluster"));
    assert_eq!((response.status, response.field("cache-control")), (200, Some("no-store")));
    let view: View = serde_json::from_slice(&response.body).unwrap();
    assert!(view.age_ms >= 30, "{}", view.age_ms);
    assert_eq!(view.nodes.len(), 2);
}

#[test]
fn without_consul_it_says_so() {
    let page = alone();
    let response = page.answer(&request("GET", "/v1/catalog/nodes"));
    assert_eq!(response.status, 502);
    assert!(text(&response).contains("Consul does not answer"), "{}", text(&response));
    let response = page.answer(&request("GET", "/ui/"));
    assert_eq!((response.status, response.field("content-type")), (404, Some(HTML)));
    assert!(text(&response).contains("without a web interface"));
    assert_eq!(page.answer(&request("GET", "/ui")).field("location"), Some("/ui/"));
}

/// What reaches Consul, byte for byte. The real one answers in tests/page.rs.
#[test]
fn what_goes_on_to_consul() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("http.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let targets = ["/v1/catalog/nodes", "/v1/health/service/web?passing&tag=a&stale", "/ui/assets/x.css"];
    let consul = thread::spawn(move || {
        let mut heads = Vec::new();
        for _ in targets {
            let (stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
            heads.push(lines.collect::<Vec<_>>());
            (&stream)
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-Consul-Index: 7\r\nSet-Cookie: c\r\nContent-Length: 2\r\n\r\n[]",
                )
                .unwrap();
        }
        heads
    });
    let page = page(&socket);
    let answers = targets.map(|target| {
        let mut asked = request("GET", target);
        asked.fields = [("X-Consul-Token", "t"), ("Cookie", "c")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        page.answer(&asked)
    });
    let lines: Vec<_> = consul.join().unwrap().into_iter().map(|head| head.join("|")).collect();
    let fields = "HTTP/1.1|Host: hcl|Connection: close";
    assert_eq!(
        lines,
        [
            format!("GET /v1/catalog/nodes?&stale {fields}"),
            format!("GET /v1/health/service/web?passing&tag=a&stale {fields}"),
            format!("GET /ui/assets/x.css {fields}"),
        ]
    );
    for response in &answers {
        assert_eq!((response.status, response.field("content-type"), response.field("set-cookie")), (200, Some("a/b"), None));
    }
    assert_eq!(
        answers.map(|response| response.field("x-consul-index").map(str::to_owned)),
        [Some("7".to_owned()), Some("7".to_owned()), None]
    );
}

#[test]
fn parameters_that_are_not_open() {
    let page = alone();
    for query in ["token=t", "index=1&wait=10m", "consistent", "passing&cached", "To%6ben=t", "wait"] {
        assert_eq!(page.answer(&request("GET", &format!("/v1/catalog/nodes?{query}"))).status, 400, "{query}");
    }
}
