//! x-forwarded-client-cert, as Envoy writes it: `By=..;Hash=..;Subject="CN=a,O=b";URI=spiffe://..`,
//! elements with commas between them. The last one was added by the proxy that calls us.

use http::{HeaderMap, HeaderName};

use super::{refusal::Refusal, token_file::principal_fault};

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// In the order in which they name somebody.
const NAMES: [&str; 3] = ["uri", "dns", "subject"];

pub(super) fn is_there(headers: &HeaderMap) -> bool {
    headers.contains_key(XFCC)
}

/// Whom a trusted proxy speaks for; `None`: it does not say.
pub(super) fn principal(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    // Whoever appends to a header may do so by a line of its own.
    let Some(last) = headers.get_all(XFCC).iter().next_back() else {
        return Ok(None);
    };
    let text = last.to_str().map_err(|_not_text| Refusal::Forwarded)?;
    let pairs = last_element(text).ok_or(Refusal::Forwarded)?;
    let of = |name: &str| {
        pairs
            .iter()
            .find(|pair| pair.0 == name && !pair.1.is_empty())
    };
    let found = NAMES.into_iter().find_map(of).map(|pair| pair.1.clone());
    let good = found.filter(|name| principal_fault(name).is_none());
    good.map(Some).ok_or(Refusal::Forwarded)
}

/// Keys in lower case, with their values; `None`: that is no such header.
fn last_element(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = vec![];
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (value, after) = value(after)?;
        pairs.push((key.to_ascii_lowercase(), value));
        match after.chars().next() {
            None => return Some(pairs),
            Some(',') => pairs.clear(),
            Some(';') => {}
            Some(_) => return None,
        }
        rest = after.get(1..)?;
    }
}

/// A value, perhaps in quotes, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        let bare = !value.contains('"');
        return bare.then(|| (value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?.trim_start())),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn named(lines: &[&str]) -> Result<Option<String>, Refusal> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(XFCC, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        principal(&headers)
    }

    #[test]
    fn the_last_element_names_the_caller() {
        for (line, name) in [
            ("URI=spiffe://plant/pi17", "spiffe://plant/pi17"),
            (
                "By=spiffe://me;Hash=0a;URI=spiffe://plant/pi17",
                "spiffe://plant/pi17",
            ),
            (
                "Hash=0a;Subject=\"CN=pi17,O=plant\";URI=;DNS=pi17.plant",
                "pi17.plant",
            ),
            ("DNS=a;DNS=b", "a"),
            (
                "Subject=\"CN=pi17,O=\\\"Plant; Inc\\\"\"",
                "CN=pi17,O=\"Plant; Inc\"",
            ),
            ("URI=spiffe://evil,By=x;URI=spiffe://pi17", "spiffe://pi17"),
            // What an outsider sent cannot reach into what the proxy appended.
            ("Subject=\"a\\\",URI=x\",URI=spiffe://pi17", "spiffe://pi17"),
            ("uri=a", "a"),
            ("URI=a=b", "a=b"),
        ] {
            assert_eq!(named(&[line]).unwrap().as_deref(), Some(name), "{line}");
        }
        let lines = ["URI=spiffe://evil", "URI=spiffe://pi17"];
        assert_eq!(named(&lines).unwrap().as_deref(), Some("spiffe://pi17"));
        assert_eq!(named(&[]), Ok(None));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for line in [
            "",
            "URI",
            "Hash=0a",
            "URI=;Subject=\"\"",
            "Subject=\"CN=a",
            "Subject=\"CN=a\\",
            "Subject=\"a\"b;URI=c",
            "URI=a\"b",
            "URI=evil,Hash=0a",
            "URI=evil,",
            "URI=evil;",
            "=a",
            "URI=\u{e4}",
        ] {
            assert_eq!(named(&[line]), Err(Refusal::Forwarded), "{line}");
        }
    }
}
