//! A TCP connection with a buffer for what came in and was not parsed yet.

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const CHUNK: usize = 128 * 1024;

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .with_context(|| format!("connect to port {port}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
        })
    }

    /// Ours; no other connection of this run has it.
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// What came in and was not consumed.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    pub fn consume(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Waits for more.
    pub async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(CHUNK);
        let came = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(came > 0, "the server closed the connection");
        Ok(())
    }

    /// Takes what has come in, if anything has.
    pub fn fill_ready(&mut self) -> Result<bool> {
        self.buffer.reserve(CHUNK);
        match self.stream.try_read_buf(&mut self.buffer) {
            Ok(0) => anyhow::bail!("the server closed the connection"),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends all of it, taking in what comes meanwhile: a server that waits for us to read its
    /// answers would never read ours.
    pub async fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.buffer.reserve(CHUNK);
            let (mut reading, mut writing) = self.stream.split();
            tokio::select! {
                biased;
                sent = writing.write(bytes) => bytes = &bytes[sent?..],
                came = reading.read_buf(&mut self.buffer) => {
                    ensure!(came? > 0, "the server closed the connection");
                }
            }
        }
        Ok(())
    }
}
