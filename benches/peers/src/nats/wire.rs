//! NATS' own protocol: what a client writes, and a parser that hands out slices.

use anyhow::{Context as _, Result, bail};

use crate::wire::Wire;

/// One line of the server, with its payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Op<'a> {
    Message {
        reply: &'a [u8],
        headers: &'a [u8],
        body: &'a [u8],
    },
    Ping,
    Pong,
    /// INFO and +OK.
    Word,
}

/// The first op in `bytes` and how long it is; `None` while it is not all there.
pub fn parse(bytes: &[u8]) -> Result<Option<(Op<'_>, usize)>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let line = &bytes[..end.saturating_sub(1)];
    let start = end + 1;
    match line.first() {
        Some(b'M') => Ok(message(bytes, &line[4..], start, false)?),
        Some(b'H') => Ok(message(bytes, &line[5..], start, true)?),
        Some(b'P') => Ok(Some((
            if line == b"PING" { Op::Ping } else { Op::Pong },
            start,
        ))),
        Some(b'I' | b'+') => Ok(Some((Op::Word, start))),
        _ => bail!("nats: {}", String::from_utf8_lossy(line)),
    }
}

/// `subject sid [reply] [bytes of headers] bytes`, and the payload behind the line.
fn message<'a>(
    bytes: &'a [u8],
    line: &'a [u8],
    start: usize,
    has_headers: bool,
) -> Result<Option<(Op<'a>, usize)>> {
    let mut rest = line;
    let mut last = || -> &'a [u8] {
        let at = memchr::memrchr(b' ', rest).unwrap_or(0);
        let word = &rest[(at + 1).min(rest.len())..];
        rest = &rest[..at];
        word
    };
    let total = number(last())?;
    let head = if has_headers { number(last())? } else { 0 };
    // Left are the subject, the subscription's number and perhaps where to reply.
    let third = last();
    let reply = if memchr::memchr(b' ', rest).is_some() {
        third
    } else {
        &[]
    };
    let end = start + total;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    let headers = &bytes[start..start + head];
    Ok(Some((
        Op::Message {
            reply,
            headers,
            body: &bytes[start + head..end],
        },
        end + 2,
    )))
}

fn number(word: &[u8]) -> Result<usize> {
    let word = std::str::from_utf8(word)?;
    word.parse()
        .with_context(|| format!("nats: {word:?} is no length"))
}

pub async fn connect(port: u16) -> Result<Wire> {
    let mut wire = Wire::connect(port).await?;
    let hello = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1,"lang":"rust","version":"1","echo":true}"#;
    wire.send(format!("{hello}\r\n").as_bytes()).await?;
    round_trip(&mut wire).await?;
    Ok(wire)
}

/// Waits until the server has taken all that was sent. Nothing else may be on its way.
pub async fn round_trip(wire: &mut Wire) -> Result<()> {
    wire.send(b"PING\r\n").await?;
    loop {
        while let Some((op, used)) = parse(wire.pending())? {
            let done = op == Op::Pong;
            let asked = op == Op::Ping;
            wire.consume(used);
            if asked {
                wire.send(b"PONG\r\n").await?;
            }
            if done {
                return Ok(());
            }
        }
        wire.fill().await?;
    }
}

pub fn publish(out: &mut Vec<u8>, subject: &str, reply: &str, body: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject.as_bytes());
    if !reply.is_empty() {
        out.push(b' ');
        out.extend_from_slice(reply.as_bytes());
    }
    out.extend_from_slice(format!(" {}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart_whether_or_not_it_has_a_reply_or_headers() {
        let plain = Op::Message {
            reply: b"",
            headers: b"",
            body: b"abc",
        };
        assert_eq!(
            parse(b"MSG feed0 1 3\r\nabc\r\nrest").unwrap(),
            Some((plain, 20))
        );
        let asked = Op::Message {
            reply: b"to.me",
            headers: b"",
            body: b"abc",
        };
        assert_eq!(
            parse(b"MSG feed0 1 to.me 3\r\nabc\r\n").unwrap(),
            Some((asked, 26))
        );
        let headed = Op::Message {
            reply: b"to.me",
            headers: b"h\r\n\r\n",
            body: b"abc",
        };
        let bytes = b"HMSG feed0 1 to.me 5 8\r\nh\r\n\r\nabc\r\n";
        assert_eq!(parse(bytes).unwrap(), Some((headed, bytes.len())));
    }

    #[test]
    fn half_a_message_waits_for_the_rest() {
        assert_eq!(parse(b"MSG feed0 1 3\r\nab").unwrap(), None);
        assert_eq!(parse(b"MSG feed0 1").unwrap(), None);
    }

    #[test]
    fn an_error_of_the_server_ends_the_run() {
        assert!(parse(b"-ERR 'Slow Consumer'\r\n").is_err());
    }
}
