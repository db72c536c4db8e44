//! Which web pages may call. A browser sends some requests of any page without asking first, so a
//! page of a foreign origin is refused here, not only kept from reading the answer.

use axum::http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};

use super::hosts::parse;

#[derive(Clone, Debug)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    pub(super) fn new(listed: &[String]) -> Self {
        Self(listed.to_vec())
    }

    /// Whether the page a request is of, if it is of one, is listed or came from the host that it
    /// asks.
    pub(super) fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let in_header = headers.get(header::HOST).and_then(text);
        let host = uri.authority().map(Authority::as_str).or(in_header);
        let ours = host.is_some_and(|host| is_of(origin, host));
        origins.next().is_none() && (ours || self.0.iter().any(|listed| listed == origin))
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// The scheme is left out: a proxy may have taken TLS away.
fn is_of(origin: &str, host: &str) -> bool {
    let of = || {
        let (scheme, authority) = origin.split_once("://")?;
        let by_default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(by_default);
        let (page, asked) = (parse(authority)?, parse(host)?);
        let same = page.host().eq_ignore_ascii_case(asked.host());
        Some(same && port(&page) == port(&asked))
    };
    of().unwrap_or(false)
}

/// Whether an entry of the settings is written as browsers write origins.
pub(super) fn is_origin(text: &str) -> bool {
    let authority = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    authority.is_some_and(|authority| {
        parse(authority).is_some() && text == text.to_ascii_lowercase() && !text.contains('*')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str, host: &str) -> bool {
        let listed = Origins::new(&["https://dash.example".to_owned()]);
        let headers = [
            (header::ORIGIN, origin.parse().unwrap()),
            (header::HOST, host.parse().unwrap()),
        ];
        listed.allow(&Uri::from_static("/"), &headers.into_iter().collect())
    }

    #[test]
    fn a_page_calls_where_it_came_from_or_where_it_is_listed() {
        assert!(allowed("http://localhost:50051", "localhost:50051"));
        assert!(allowed("https://feeds.example", "feeds.example:443"));
        assert!(allowed("https://feeds.example:443", "Feeds.example"));
        assert!(allowed("https://dash.example", "localhost:50051"));
        assert!(!allowed("http://localhost:3000", "localhost:50051"));
        assert!(!allowed("http://dash.example", "localhost:50051"));
        assert!(!allowed(
            "https://dash.example.evil.example",
            "localhost:50051"
        ));
        assert!(!allowed("null", "localhost:50051"));
        assert!(!allowed("", "localhost:50051"));
        let programs = HeaderMap::new();
        assert!(Origins::new(&[]).allow(&Uri::from_static("/"), &programs));
    }

    #[test]
    fn settings_name_origins_as_browsers_do() {
        for good in ["https://dash.example", "http://localhost:3000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "*",
            "dash.example",
            "https://dash.example/",
            "https://*.example",
            "null",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
