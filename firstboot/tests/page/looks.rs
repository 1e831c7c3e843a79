//! How it looks: on phones and screens, light and dark, for the keyboard and for those who listen.

use std::path::Path;

use hcl_firstboot::{http::Server, view::View};
use serde_json::json;

use crate::{Feeder, assert_only_here, axe::violations, browser::Browser, example, serve};

/// A browser that shows `view`; everything it may ask stays alive as long as what comes with it.
fn shown(view: View) -> (Browser, (Server, Feeder)) {
    let (server, page) = serve(([127, 0, 0, 1], 0).into(), Path::new("/nonexistent/consul.sock"));
    let feeder = Feeder::start(page, move || Ok(view.clone()));
    let mut browser = Browser::start();
    browser.window(1280, 800, false, false);
    browser.open(&format!("http://{}/", server.address()));
    (browser, (server, feeder))
}

#[test]
fn nothing_is_cut_off_or_hard_to_read() {
    for (name, view) in
        [("well", example::well()), ("ill", example::ill()), ("empty", View { nodes: Vec::new(), ..example::well() })]
    {
        let (server, page) = serve(([127, 0, 0, 1], 0).into(), Path::new("/nonexistent/consul.sock"));
        let _feeder = Feeder::start(page, move || Ok(view.clone()));
        let mut browser = Browser::start();
        for (width, phone) in [(360, true), (820, true), (1280, false)] {
            for dark in [false, true] {
                let what = format!("{name}-{width}-{}", if dark { "dark" } else { "light" });
                browser.window(width, 800, phone, dark);
                browser.call("Page.navigate", json!({ "url": format!("http://{}/", server.address()) }));
                browser.wait("document.getElementById('pulse')?.dataset.state === 'live'");
                browser.picture(&what);
                browser.value("document.querySelectorAll('details').forEach(one => one.open = true)");
                let overflow = browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
                assert_eq!(overflow, 0, "{what}: no scrolling sideways");
                // A phone would zoom out instead.
                assert_eq!(browser.value("visualViewport.scale"), 1, "{what}");
                assert_eq!(violations(&mut browser), [""; 0], "{what}");
            }
        }
        assert_eq!(browser.complaints(), [""; 0], "{name}");
        assert_only_here(&mut browser, &server.address().to_string());
        assert_eq!(browser.value("document.querySelectorAll('main img, main script').length"), 0, "no HTML of data");
    }
}

/// What is published is a link: of a service to the host that the browser uses, of a container to its own node.
#[test]
fn what_is_published_is_a_link() {
    let mut view = example::well();
    view.services[0].ports = vec![80, 8080];
    let (mut browser, _server) = shown(view);
    browser.wait("document.querySelectorAll('.service').length === 3");
    let of_services = browser.value("[...document.querySelectorAll('.service a')].map(a => a.href).join(' ')");
    let wanted = "http://127.0.0.1/ http://127.0.0.1:8080/ http://127.0.0.1:8000/ http://127.0.0.1:8443/";
    assert_eq!(of_services, wanted);
    assert!(browser.text("#services").contains("registry.local:5000/demo/whoami:1.2@sha256:3c4c843a3aff"));
    assert!(browser.text("#services").contains("3 of 3 run"));
    // The columns stay where they are without a port.
    let edges = "new Set([...document.querySelectorAll('.service .count')].map(e => e.getBoundingClientRect().right)).size";
    assert_eq!(browser.value(edges), 1);
    // Its page is open at an address that says nothing of the others: their ports are text.
    let of_containers =
        "[...document.querySelectorAll('.container .ports > *')].map(e => `${e.textContent} ${e.href ?? ''}`).join()";
    assert_eq!(browser.value(of_containers), ":8081 http://127.0.0.1:8081/,:8082 ");
    browser.window(360, 800, true, false);
    browser.value("document.querySelectorAll('details').forEach(one => one.open = true)");
    browser.picture("published");
}

/// Tab goes through everything that can be used, in the order of the page, and shows where it is.
#[test]
fn the_keyboard_reaches_everything() {
    let (mut browser, _server) = shown(example::ill());
    let wanted = browser.value(
        "[...document.querySelectorAll('a[href], summary')].filter(e => e.getClientRects().length && !e.closest('details:not([open]) ul')).length",
    );
    let wanted = wanted.as_u64().unwrap();
    assert!(wanted > 8, "{wanted}");
    browser.press("Tab");
    assert_eq!(browser.value("document.activeElement.className"), "skip");
    assert!(browser.value("document.activeElement.getBoundingClientRect().top").as_f64().unwrap() >= 0.0, "it comes into sight");
    browser.value("window.reached = [document.activeElement]");
    for _ in 1..wanted {
        browser.press("Tab");
        let seen = browser.value(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e); const last = reached.at(-1); \
             const after = !!(last.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING); reached.push(e); \
             return [s.outlineStyle, parseFloat(s.outlineWidth) >= 2, after, e.matches('a[href], summary')].join(); })()",
        );
        assert_eq!(seen, "solid,true,true,true", "{}", browser.value("reached.at(-1).outerHTML"));
    }
    assert_eq!(browser.value("new Set(reached).size"), wanted);
    // Opened by key, it stays open and keeps the focus while figures go on coming.
    browser.value("document.querySelector('.node summary').focus()");
    browser.press("Enter");
    browser.value("window.asked = performance.getEntriesByName(location.origin + '/api/cluster').length");
    browser.wait("performance.getEntriesByName(location.origin + '/api/cluster').length >= asked + 2");
    assert_eq!(
        browser.value("document.querySelector('.node details').open && document.activeElement.matches('.node summary')"),
        true
    );
    browser.value("document.querySelector('.skip').focus()");
    browser.press("Enter");
    assert_eq!(browser.value("document.activeElement.id"), "main");
}

/// The browser itself keeps the page from what it must not do; and these tests would see it.
#[test]
fn the_policy_holds() {
    let (mut browser, _server) = shown(example::well());
    assert_eq!(browser.complaints(), [""; 0]);
    let tries = [
        ("fetch('http://127.0.0.2:9/').catch(() => 0)", "connect-src"),
        ("document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.2:9/x.png' }))", "img-src"),
        ("document.body.setAttribute('style', 'color: red')", "style-src"),
        ("document.body.setAttribute('onclick', 'window.ran = 1')", "TrustedScript"),
        ("document.createElement('script').textContent = 'window.ran = 1'", "TrustedScript"),
        ("document.body.innerHTML = '<b>x</b>'", "TrustedHTML"),
        ("setTimeout('window.ran = 1')", "TrustedScript"),
    ];
    for (attempt, complaint) in tries {
        browser.value(&format!("(() => {{ try {{ {attempt}; }} catch (error) {{ console.error(String(error)); }} }})()"));
        let seen = crate::wait(crate::PATIENCE, attempt, || Some(browser.complaints()).filter(|all| !all.is_empty()));
        assert!(seen.iter().any(|line| line.contains(complaint)), "{attempt}: {seen:?}");
    }
    assert_eq!(browser.value("window.ran === undefined && document.querySelector('main b') === null"), true);
}
