//! The three ways to publish into a stream, each with its own acknowledgements.

use std::io::Write as _;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use super::{
    super::{
        subject,
        wire::{self, Op},
    },
    Publish,
};
use crate::{record::LEN, system::Writer, wire::Wire};

/// The most an atomic batch may hold.
const BATCH: usize = 1000;
/// Batches on their way at once.
const BATCHES: u64 = 4;
/// What Go's client leaves unanswered by default.
const ASYNC: u64 = 4000;
/// Of a fast batch: records per acknowledgement, and how many of those may be outstanding.
const FLOW: u64 = 1000;
const OUTSTANDING: u64 = 3;

/// An answer to a publish of any kind; the server leaves out what does not apply.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ack {
    error: Option<serde_json::Value>,
    #[serde(rename = "type")]
    kind: String,
    seq: u64,
    msgs: u64,
    count: u64,
}

#[derive(Debug)]
pub struct JetStreamWriter {
    wire: Wire,
    out: Vec<u8>,
    subject: String,
    inbox: String,
    publish: Publish,
    /// Which batch this is; a fast one lasts until `settle`.
    batch: u64,
    /// Records of async publishes and of atomic batches; of a fast batch, those since its start.
    sent: u64,
    acked: u64,
    /// How many records the server lets a fast batch send per acknowledgement.
    flow: u64,
    committed: bool,
}

impl JetStreamWriter {
    pub async fn new(mut wire: Wire, lane: usize, publish: Publish) -> Result<Self> {
        // Fast batches demand an inbox of two words.
        let inbox = format!("_ACK.{}", wire.local_port()?);
        wire.send(format!("SUB {inbox} 1\r\nSUB {inbox}x.> 2\r\n").as_bytes())
            .await?;
        wire::round_trip(&mut wire).await?;
        Ok(Self {
            wire,
            out: Vec::new(),
            subject: subject(lane),
            inbox,
            publish,
            batch: 0,
            sent: 0,
            acked: 0,
            flow: FLOW,
            committed: false,
        })
    }

    /// Async and atomic: as many records as `window` may be unanswered.
    async fn wait(&mut self, window: u64) -> Result<()> {
        while self.wire.fill_ready()? {}
        self.acks()?;
        while self.sent - self.acked > window {
            self.wire.fill().await?;
            self.acks()?;
        }
        Ok(())
    }

    fn acks(&mut self) -> Result<()> {
        let mut used = 0;
        while let Some((op, length)) = wire::parse(&self.wire.pending()[used..])? {
            if let Op::Message { headers, body, .. } = op {
                ensure!(
                    headers.is_empty(),
                    "no stream: {}",
                    String::from_utf8_lossy(headers)
                );
                // The one figure needed, without reading JSON for every record.
                let counts_one = self.publish == Publish::Async && body.starts_with(b"{\"stream\"");
                if counts_one {
                    self.acked += 1;
                } else {
                    let ack: Ack = serde_json::from_slice(body)?;
                    (self.acked, self.flow, self.committed) = self.after(&ack)?;
                }
            }
            used += length;
        }
        self.wire.consume(used);
        Ok(())
    }

    /// What is acknowledged after this answer, the flow, and whether the fast batch is over.
    fn after(&self, ack: &Ack) -> Result<(u64, u64, bool)> {
        if let Some(error) = &ack.error {
            bail!("jetstream: {error}");
        }
        match (self.publish, ack.kind.as_str()) {
            (Publish::Atomic, _) => Ok((self.acked + ack.count, self.flow, false)),
            (Publish::Fast, "ack") => {
                Ok((self.acked.max(ack.seq), ack.msgs.max(1), self.committed))
            }
            (Publish::Fast, "") => Ok((ack.count, self.flow, true)),
            _ => bail!("jetstream: unexpected {ack:?}"),
        }
    }

    fn put_async(&mut self, records: &[u8]) {
        let head = format!("PUB {} {} {LEN}\r\n", self.subject, self.inbox);
        for record in records.chunks_exact(LEN) {
            self.out.extend_from_slice(head.as_bytes());
            self.out.extend_from_slice(record);
            self.out.extend_from_slice(b"\r\n");
            self.sent += 1;
        }
    }

    fn put_atomic(&mut self, records: &[u8]) -> Result<()> {
        self.batch += 1;
        let count = records.len() / LEN;
        for (at, record) in records.chunks_exact(LEN).enumerate() {
            let last = at + 1 == count;
            let (reply, commit) = if last {
                (self.inbox.as_str(), "Nats-Batch-Commit: 1\r\n")
            } else {
                ("", "")
            };
            let headers = format!(
                "NATS/1.0\r\nNats-Batch-Id: {}-{}\r\nNats-Batch-Sequence: {}\r\n{commit}\r\n",
                self.inbox,
                self.batch,
                at + 1
            );
            let total = headers.len() + LEN;
            let Self { out, subject, .. } = self;
            write!(
                out,
                "HPUB {subject} {reply} {} {total}\r\n{headers}",
                headers.len()
            )?;
            self.out.extend_from_slice(record);
            self.out.extend_from_slice(b"\r\n");
        }
        self.sent += count as u64;
        Ok(())
    }

    /// One message of a fast batch: 0 starts it, 1 goes on, 3 ends it and is not stored.
    fn put_fast(&mut self, step: u8, record: &[u8]) -> Result<()> {
        let (subject, inbox, batch, flow) = (&self.subject, &self.inbox, self.batch, FLOW);
        let number = self.sent + 1;
        let out = &mut self.out;
        write!(
            out,
            "PUB {subject} {inbox}x.{batch}.{flow}.fail.{number}.{step}.$FI "
        )?;
        write!(out, "{}\r\n", record.len())?;
        out.extend_from_slice(record);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let out = std::mem::take(&mut self.out);
        self.wire.send(&out).await?;
        self.out = out;
        self.out.clear();
        Ok(())
    }

    async fn send_fast(&mut self, records: &[u8]) -> Result<()> {
        let mut records = records.chunks_exact(LEN);
        if self.sent == 0 {
            let Some(first) = records.next() else {
                return Ok(());
            };
            self.put_fast(0, first)?;
            self.flush().await?;
            self.sent = 1;
            // The answer says that the batch is known, and the flow.
            self.flow = 0;
            while self.flow == 0 {
                self.wire.fill().await?;
                self.acks()?;
            }
        }
        for record in records {
            if self.acked + self.flow * OUTSTANDING <= self.sent + 1 {
                self.flush().await?;
                self.acks()?;
                while self.acked + self.flow * OUTSTANDING <= self.sent + 1 {
                    self.wire.fill().await?;
                    self.acks()?;
                }
            }
            self.put_fast(1, record)?;
            self.sent += 1;
        }
        self.flush().await
    }

    async fn settle_fast(&mut self) -> Result<()> {
        if self.sent == 0 {
            return Ok(());
        }
        self.put_fast(3, b"")?;
        self.flush().await?;
        while !self.committed {
            self.wire.fill().await?;
            self.acks()?;
        }
        let (sent, acked) = (self.sent, self.acked);
        ensure!(
            acked >= sent,
            "jetstream: {acked} of {sent} records acknowledged"
        );
        (self.sent, self.acked, self.committed, self.flow) = (0, 0, false, FLOW);
        self.batch += 1;
        Ok(())
    }
}

impl Writer for JetStreamWriter {
    fn batch(&self) -> usize {
        BATCH
    }

    async fn send(&mut self, records: &[u8]) -> Result<()> {
        match self.publish {
            Publish::Async => {
                self.put_async(records);
                self.flush().await?;
                self.wait(ASYNC).await
            }
            Publish::Atomic => {
                self.put_atomic(records)?;
                self.flush().await?;
                self.wait((BATCHES - 1) * BATCH as u64).await
            }
            Publish::Fast => self.send_fast(records).await,
        }
    }

    async fn settle(&mut self) -> Result<()> {
        match self.publish {
            Publish::Async | Publish::Atomic => self.wait(0).await,
            Publish::Fast => self.settle_fast().await,
        }
    }
}
