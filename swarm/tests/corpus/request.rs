//! What must hold for any request line, such as `GET /v1.41/containers/web/json?size=1`. The fuzz target calls the same.

use hcl_swarm::api::{ApiVersion, Filters, Query, routes, segment};
use http::{Method, Uri};
use percent_encoding::percent_decode_str;

/// Whether an endpoint is found for it, in a version that is spoken. No panic; what stands for the placeholders, written into a path
/// for an engine, is the same path and brings no query with it; a query that is read and written again is the same one, and so are
/// its filters.
pub fn check(data: &[u8]) -> bool {
    let Some((method, uri)) = std::str::from_utf8(data).ok().and_then(|line| line.trim_end().split_once(' ')) else {
        return false;
    };
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), uri.parse::<Uri>()) else { return false };
    let query = uri.query().unwrap_or_default();
    read_query(query);
    let Ok(path) = percent_decode_str(uri.path()).decode_utf8() else { return false };
    let (version, path) = ApiVersion::split(&path);
    let Some((route, names)) = routes::find(&method, path) else { return false };
    let names = [names.first(), names.second()];
    let mut again = String::new();
    let mut rest = route.pattern;
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let (before, after) = rest.split_once('{').expect("a placeholder for each name");
        again.extend([before, &segment(name)]);
        rest = after.split_once('}').expect("placeholders end").1;
    }
    again.push_str(rest);
    assert_eq!(percent_decode_str(&again).decode_utf8().as_deref(), Ok(path));
    let again = again.parse::<Uri>().expect("a path for an engine");
    assert_eq!((again.query(), again.authority()), (None, None));
    version.is_none_or(|version| version.check(ApiVersion::OLDEST, ApiVersion::NEWEST).is_ok())
}

fn read_query(text: &str) {
    let query = Query::parse(text);
    let written = query.on("/x");
    let uri = written.parse::<Uri>();
    assert!(uri.is_ok() || written.len() > 60_000, "{written}");
    assert_eq!(Query::parse(written.strip_prefix("/x").unwrap_or_default().trim_start_matches('?')), query);
    for key in ["all", "force", "name"] {
        let _ = (query.flag(key), query.get(key));
    }
    if let Ok(filters) = query.filters() {
        let mut changed = query.clone();
        changed.set_filters(&filters);
        assert_eq!(changed.filters().as_ref(), Ok(&filters));
        assert_eq!(Filters::parse(&filters.to_string()), Ok(filters.clone()));
        for key in filters.keys() {
            let _ = (filters.exact(key, "web"), filters.matches(key, "web"));
        }
    }
}
