//! NATS: core (nothing kept, nothing acknowledged) and, in `jetstream`, its durable streams.

pub mod jetstream;
mod wire;

use std::process::Command;

use anyhow::Result;

use self::wire::Op;
use crate::{
    record::LEN,
    system::{Reader, Site, System, Writer},
    wire::Wire,
};

#[derive(Debug, Clone, Copy)]
pub struct Core;

impl System for Core {
    type Writer = CoreWriter;
    type Reader = CoreReader;

    fn command(&self, site: &Site<'_>) -> Result<Command> {
        Ok(server(site))
    }

    async fn prepare(&self, _port: u16, _lanes: usize) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, port: u16, lane: usize) -> Result<CoreWriter> {
        let wire = wire::connect(port).await?;
        let head = format!("PUB {} {LEN}\r\n", subject(lane)).into_bytes();
        Ok(CoreWriter {
            wire,
            head,
            out: Vec::new(),
        })
    }

    async fn reader(&self, port: u16, lane: usize) -> Result<CoreReader> {
        let mut wire = wire::connect(port).await?;
        wire.send(format!("SUB {} 1\r\n", subject(lane)).as_bytes())
            .await?;
        wire::round_trip(&mut wire).await?;
        Ok(CoreReader { wire })
    }
}

fn server(site: &Site<'_>) -> Command {
    let mut command = Command::new(site.tools.join("nats-server"));
    command.args(["--addr", "127.0.0.1", "--port", &site.port.to_string()]);
    command
}

fn subject(lane: usize) -> String {
    format!("feed{lane}")
}

#[derive(Debug)]
pub struct CoreWriter {
    wire: Wire,
    head: Vec<u8>,
    out: Vec<u8>,
}

impl Writer for CoreWriter {
    fn batch(&self) -> usize {
        500
    }

    async fn send(&mut self, records: &[u8]) -> Result<()> {
        self.out.clear();
        for record in records.chunks_exact(LEN) {
            self.out.extend_from_slice(&self.head);
            self.out.extend_from_slice(record);
            self.out.extend_from_slice(b"\r\n");
        }
        self.wire.send(&self.out).await
    }

    async fn settle(&mut self) -> Result<()> {
        wire::round_trip(&mut self.wire).await
    }
}

#[derive(Debug)]
pub struct CoreReader {
    wire: Wire,
}

impl Reader for CoreReader {
    async fn read(&mut self, mut each: impl FnMut(&[u8]) -> Result<()> + Send) -> Result<()> {
        let mut got = false;
        while !got {
            self.wire.fill().await?;
            let mut used = 0;
            let mut asked = false;
            while let Some((op, length)) = wire::parse(&self.wire.pending()[used..])? {
                match op {
                    Op::Message { body, .. } => {
                        each(body)?;
                        got = true;
                    }
                    Op::Ping => asked = true,
                    Op::Pong | Op::Word => {}
                }
                used += length;
            }
            self.wire.consume(used);
            if asked {
                self.wire.send(b"PONG\r\n").await?;
            }
        }
        Ok(())
    }
}
