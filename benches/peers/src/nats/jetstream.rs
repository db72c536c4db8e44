//! JetStream: a file stream per lane, written by async publishes, atomic batches or fast batches,
//! read by push consumers with flow control and without acknowledgements.

mod writer;

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

pub use self::writer::JetStreamWriter;
use super::{
    server, subject,
    wire::{self, Op},
};
use crate::{
    system::{Reader, Site, System},
    wire::Wire,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// `sync_interval: always`: acknowledged after fsync.
    Always,
    /// An fsync every two minutes.
    Default,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    Async,
    Atomic,
    Fast,
}

#[derive(Debug, Clone, Copy)]
pub struct JetStream {
    pub fsync: Fsync,
    pub publish: Publish,
}

impl System for JetStream {
    type Writer = JetStreamWriter;
    type Reader = JetStreamReader;

    fn command(&self, site: &Site<'_>) -> Result<Command> {
        let settings = site.data.join("nats.conf");
        let sync = match self.fsync {
            Fsync::Always => "sync_interval: always",
            Fsync::Default => "",
        };
        let store = site.data.join("store");
        let text = format!(
            "jetstream {{ store_dir: {:?}\n {sync} }}\n",
            store.display()
        );
        std::fs::write(&settings, text)?;
        let mut command = server(site);
        command.arg("--config").arg(settings);
        Ok(command)
    }

    async fn prepare(&self, port: u16, lanes: usize) -> Result<()> {
        let mut wire = wire::connect(port).await?;
        for lane in 0..lanes {
            let name = subject(lane);
            let config = json!({
                "name": name, "subjects": [name], "storage": "file", "num_replicas": 1,
                "retention": "limits", "max_msgs": -1, "max_bytes": -1,
                "allow_atomic": true, "allow_batched": true,
            });
            ask(&mut wire, &format!("STREAM.CREATE.{name}"), &config).await?;
        }
        Ok(())
    }

    async fn writer(&self, port: u16, lane: usize) -> Result<JetStreamWriter> {
        JetStreamWriter::new(wire::connect(port).await?, lane, self.publish).await
    }

    async fn reader(&self, port: u16, lane: usize) -> Result<JetStreamReader> {
        let mut wire = wire::connect(port).await?;
        let name = subject(lane);
        // A subject of this connection alone: readers of one lane differ by their local port.
        let inbox = format!("_READ.{}", wire.local_port()?);
        wire.send(format!("SUB {inbox} 2\r\n").as_bytes()).await?;
        let config = json!({
            "stream_name": name,
            "config": {
                "deliver_subject": inbox, "deliver_policy": "all", "ack_policy": "none",
                "max_deliver": 1, "flow_control": true, "idle_heartbeat": 5_000_000_000_u64,
                "num_replicas": 1, "mem_storage": true, "inactive_threshold": 60_000_000_000_u64,
            },
        });
        let backlog = ask(&mut wire, &format!("CONSUMER.CREATE.{name}"), &config).await?;
        Ok(JetStreamReader { wire, backlog })
    }
}

/// One request to the JetStream API; hands back the bytes of messages that came before its answer.
async fn ask(wire: &mut Wire, what: &str, body: &serde_json::Value) -> Result<Vec<u8>> {
    let inbox = format!("_ANSWER.{}", wire.local_port()?);
    let mut out = format!("SUB {inbox} 1\r\nUNSUB 1 1\r\n").into_bytes();
    wire::publish(
        &mut out,
        &format!("$JS.API.{what}"),
        &inbox,
        body.to_string().as_bytes(),
    );
    wire.send(&out).await?;
    let mut early = Vec::new();
    loop {
        let pending = wire.pending();
        let Some((op, used)) = wire::parse(pending)? else {
            wire.fill().await?;
            continue;
        };
        let raw = &pending[..used];
        let answer = match op {
            Op::Message { body, .. }
                if raw.windows(inbox.len()).any(|at| at == inbox.as_bytes()) =>
            {
                let answer: serde_json::Value =
                    serde_json::from_slice(body).with_context(|| format!("answer to {what}"))?;
                Some(answer)
            }
            Op::Message { .. } => {
                early.extend_from_slice(raw);
                None
            }
            Op::Ping | Op::Pong | Op::Word => None,
        };
        wire.consume(used);
        match answer {
            Some(answer) if answer.get("error").is_some() => bail!("{what}: {}", answer["error"]),
            Some(_) => return Ok(early),
            None => {}
        }
    }
}

#[derive(Debug)]
pub struct JetStreamReader {
    wire: Wire,
    /// What the server sent before it answered that the consumer exists.
    backlog: Vec<u8>,
}

impl Reader for JetStreamReader {
    async fn read(&mut self, mut each: impl FnMut(&[u8]) -> Result<()> + Send) -> Result<()> {
        let mut out = Vec::new();
        let backlog = std::mem::take(&mut self.backlog);
        let mut got = deliver(&backlog, &mut out, &mut each)?.0;
        while !got {
            let (some, used) = deliver(self.wire.pending(), &mut out, &mut each)?;
            self.wire.consume(used);
            got = some;
            if !out.is_empty() {
                self.wire.send(&out).await?;
                out.clear();
            }
            if !got {
                self.wire.fill().await?;
            }
        }
        Ok(())
    }
}

/// Hands on each record in `bytes`; what the server waits for goes into `out`.
fn deliver(
    bytes: &[u8],
    out: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<(bool, usize)> {
    let mut used = 0;
    let mut got = false;
    while let Some((op, length)) = wire::parse(&bytes[used..])? {
        match op {
            // An atomic batch's records keep their headers; only a status has text on the first line.
            Op::Message { headers, body, .. } if !headers.starts_with(b"NATS/1.0 ") => {
                each(body)?;
                got = true;
            }
            // Flow control names where to answer in its reply, a heartbeat that saw the
            // consumer stalled in a header.
            Op::Message { reply, headers, .. } => {
                if let Some(to) = awaited(reply, headers)? {
                    wire::publish(out, to, "", b"");
                }
            }
            Op::Ping => out.extend_from_slice(b"PONG\r\n"),
            Op::Pong | Op::Word => {}
        }
        used += length;
    }
    Ok((got, used))
}

fn awaited<'a>(reply: &'a [u8], headers: &'a [u8]) -> Result<Option<&'a str>> {
    let headers = std::str::from_utf8(headers)?;
    if !headers.starts_with("NATS/1.0 100") {
        bail!("jetstream: {headers}");
    }
    let stalled = headers
        .lines()
        .find_map(|line| line.strip_prefix("Nats-Consumer-Stalled: "));
    Ok(if reply.is_empty() {
        stalled
    } else {
        Some(std::str::from_utf8(reply)?)
    })
}
