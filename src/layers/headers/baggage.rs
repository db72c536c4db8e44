//! `baggage`: <https://www.w3.org/TR/baggage/>. It is passed on, and not looked into.

use http::HeaderMap;

use super::{BAGGAGE, members};

const MAX_MEMBERS: usize = 64;
const MAX_BYTES: usize = 8_192;

/// All of it as one header, if all of it is well-formed.
pub(in crate::layers) fn baggage(headers: &HeaderMap) -> Option<Box<str>> {
    let members = members(headers, &BAGGAGE)?;
    let fits = (1..=MAX_MEMBERS).contains(&members.len());
    let all = (fits && members.iter().all(|member| is_member(member))).then(|| members.join(","));
    all.filter(|all| all.len() <= MAX_BYTES).map(Into::into)
}

fn is_member(member: &str) -> bool {
    let mut parts = member.split(';').map(trim);
    let pair = |part: &str| {
        let pair = part.split_once('=');
        pair.is_some_and(|(key, value)| is_token(trim(key)) && is_value(trim(value)))
    };
    parts.next().is_some_and(pair) && parts.all(|property| is_token(property) || pair(property))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// RFC 7230, 3.2.6.
fn is_token(text: &str) -> bool {
    let within = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(within)
}

fn is_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<Box<str>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(BAGGAGE, line.parse().unwrap());
        }
        baggage(&headers)
    }

    #[test]
    fn well_formed_baggage_is_kept_and_other_dropped() {
        let kept = read(&["a=1, b = x%20y ;p;q=2", "c=a=b"]);
        assert_eq!(kept.as_deref(), Some("a=1,b = x%20y ;p;q=2,c=a=b"));
        for bad in [
            "", "a", "a=1,", "=1", "a b=1", "a=x y", "a=\"x\"", "a=1;", "a=1;é", "a=\\",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&["a=1", "b"]), None);
    }

    #[test]
    fn baggage_is_bounded() {
        let of = |count: usize, value: &str| {
            let all: Vec<_> = (0..count).map(|n| format!("k{n}={value}")).collect();
            read(&[&all.join(",")])
        };
        assert!(of(64, "").is_some());
        assert!(of(65, "").is_none());
        assert!(of(2, &"x".repeat(4_080)).is_some());
        assert!(of(2, &"x".repeat(4_096)).is_none());
    }
}
