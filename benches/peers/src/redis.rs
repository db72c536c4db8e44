//! Redis Streams: pipelines of XADD, readers that block in XREAD.

use std::{fmt::Write as _, process::Command};

use anyhow::{Result, bail};

use crate::{
    record::LEN,
    system::{Reader, Site, System, Writer},
    wire::Wire,
};

const PIPELINE: usize = 500;
/// Pipelines on their way at once: the next is sent while the server answers the last.
const UNANSWERED: u64 = 4 * PIPELINE as u64;
/// Entries one XREAD may answer with.
const COUNT: usize = 1000;

#[derive(Debug, Clone, Copy)]
pub enum Redis {
    Always,
    Everysec,
}

impl System for Redis {
    type Writer = RedisWriter;
    type Reader = RedisReader;

    fn command(&self, site: &Site<'_>) -> Result<Command> {
        let mut command = Command::new(site.tools.join("redis-server"));
        command.args(["--bind", "127.0.0.1", "--port", &site.port.to_string()]);
        // No snapshots, and no rewriting of the log in the middle of a run.
        command.args(["--save", "", "--auto-aof-rewrite-percentage", "0"]);
        command.args(["--appendonly", "yes", "--appendfsync"]);
        command.arg(match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        });
        command.arg("--dir").arg(site.data);
        Ok(command)
    }

    async fn prepare(&self, _port: u16, _lanes: usize) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, port: u16, lane: usize) -> Result<RedisWriter> {
        let key = key(lane);
        let head = format!(
            "*5\r\n$4\r\nXADD\r\n${}\r\n{key}\r\n$1\r\n*\r\n$1\r\nd\r\n${LEN}\r\n",
            key.len()
        );
        let wire = Wire::connect(port).await?;
        Ok(RedisWriter {
            wire,
            head: head.into_bytes(),
            out: Vec::new(),
            unanswered: 0,
        })
    }

    async fn reader(&self, port: u16, lane: usize) -> Result<RedisReader> {
        let wire = Wire::connect(port).await?;
        Ok(RedisReader {
            wire,
            key: key(lane),
            last: "0-0".to_owned(),
        })
    }
}

fn key(lane: usize) -> String {
    format!("feed{lane}")
}

#[derive(Debug)]
pub struct RedisWriter {
    wire: Wire,
    /// An XADD up to the record.
    head: Vec<u8>,
    out: Vec<u8>,
    unanswered: u64,
}

impl RedisWriter {
    /// Takes the answers that are there: each is a bulk string, the entry's id.
    fn answers(&mut self) -> Result<()> {
        let mut used = 0;
        loop {
            let pending = &self.wire.pending()[used..];
            let Some((length, head)) = header(pending, '$')? else {
                break;
            };
            let end = head + length + 2;
            if pending.len() < end {
                break;
            }
            used += end;
            self.unanswered -= 1;
        }
        self.wire.consume(used);
        Ok(())
    }
}

impl Writer for RedisWriter {
    fn batch(&self) -> usize {
        PIPELINE
    }

    async fn send(&mut self, records: &[u8]) -> Result<()> {
        self.out.clear();
        for record in records.chunks_exact(LEN) {
            self.out.extend_from_slice(&self.head);
            self.out.extend_from_slice(record);
            self.out.extend_from_slice(b"\r\n");
        }
        self.unanswered += (records.len() / LEN) as u64;
        self.wire.send(&self.out).await?;
        while self.wire.fill_ready()? {}
        self.answers()?;
        while self.unanswered > UNANSWERED {
            self.wire.fill().await?;
            self.answers()?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        self.answers()?;
        while self.unanswered > 0 {
            self.wire.fill().await?;
            self.answers()?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct RedisReader {
    wire: Wire,
    key: String,
    last: String,
}

impl RedisReader {
    async fn ask(&mut self) -> Result<()> {
        let count = COUNT.to_string();
        let words = [
            "XREAD",
            "COUNT",
            &count,
            "BLOCK",
            "0",
            "STREAMS",
            self.key.as_str(),
            &self.last,
        ];
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            write!(out, "${}\r\n{word}\r\n", word.len())?;
        }
        self.wire.send(out.as_bytes()).await
    }

    /// Takes what `parse` finds, waiting until it finds it whole.
    async fn take<T>(&mut self, parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>>) -> Result<T> {
        loop {
            if let Some((found, used)) = parse(self.wire.pending())? {
                self.wire.consume(used);
                return Ok(found);
            }
            self.wire.fill().await?;
        }
    }
}

impl Reader for RedisReader {
    async fn read(&mut self, mut each: impl FnMut(&[u8]) -> Result<()> + Send) -> Result<()> {
        self.ask().await?;
        // [[key, [[id, ["d", record]], ..]]]
        self.take(|bytes| header(bytes, '*')).await?;
        self.take(|bytes| header(bytes, '*')).await?;
        self.take(|bytes| Ok(bulk(bytes)?.map(|(_, used)| ((), used))))
            .await?;
        let mut left = self.take(|bytes| header(bytes, '*')).await?;
        while left > 0 {
            let mut used = 0;
            let mut last = None;
            while left > 0 {
                let Some((id, record, end)) = entry(&self.wire.pending()[used..])? else {
                    break;
                };
                each(record)?;
                last = Some(id);
                used += end;
                left -= 1;
            }
            if let Some(id) = last {
                self.last.clear();
                self.last.push_str(std::str::from_utf8(id)?);
            }
            self.wire.consume(used);
            if left > 0 {
                self.wire.fill().await?;
            }
        }
        Ok(())
    }
}

/// An id, its record, and the bytes they take.
type Entry<'a> = (&'a [u8], &'a [u8], usize);

fn entry(bytes: &[u8]) -> Result<Option<Entry<'_>>> {
    let Some((_, mut at)) = header(bytes, '*')? else {
        return Ok(None);
    };
    let Some((id, used)) = bulk(&bytes[at..])? else {
        return Ok(None);
    };
    at += used;
    let Some((_, used)) = header(&bytes[at..], '*')? else {
        return Ok(None);
    };
    at += used;
    let Some((_, used)) = bulk(&bytes[at..])? else {
        return Ok(None);
    };
    at += used;
    let Some((record, used)) = bulk(&bytes[at..])? else {
        return Ok(None);
    };
    Ok(Some((id, record, at + used)))
}

fn bulk(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    let Some((length, head)) = header(bytes, '$')? else {
        return Ok(None);
    };
    let end = head + length;
    Ok((bytes.len() >= end + 2).then(|| (&bytes[head..end], end + 2)))
}

/// The number after `mark`, and the bytes up to the next item.
fn header(bytes: &[u8], mark: char) -> Result<Option<(usize, usize)>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..end.saturating_sub(1)])?;
    let number = line
        .strip_prefix(mark)
        .and_then(|number| number.parse().ok());
    match number {
        Some(number) => Ok(Some((number, end + 1))),
        None => bail!("redis answered {line:?}"),
    }
}
