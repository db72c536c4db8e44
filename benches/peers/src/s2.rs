//! s2-lite on a local disk: append and read sessions over HTTP/2, in S2's own framing. Each writer
//! and reader has a connection of its own.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client};
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    record::LEN,
    system::{Reader, Site, System, Writer},
};

const BASIN: &str = "ringfeed-peers";
/// The most one append may hold.
const BATCH: usize = 1000;
/// Appends on their way at once.
const UNANSWERED: u64 = 16;
const WINDOW: u32 = 8 << 20;
/// A frame's flag byte: the session is over, and the status says why.
const TERMINAL: u8 = 0x80;

#[derive(Debug, Clone, Copy)]
pub struct S2;

impl System for S2 {
    type Writer = S2Writer;
    type Reader = S2Reader;

    fn command(&self, site: &Site<'_>) -> Result<Command> {
        let lanes: Vec<_> = (0..16).map(|lane| json!({ "name": name(lane) })).collect();
        let spec = json!({ "basins": [{ "name": BASIN, "streams": lanes }] });
        let init = site.data.join("init.json");
        std::fs::write(&init, spec.to_string())?;
        let root = site.data.join("store");
        std::fs::create_dir_all(&root)?;
        let mut command = Command::new(site.tools.join("s2-lite"));
        command.args(["--port", &site.port.to_string(), "--no-dashboard"]);
        command
            .arg("--local-root")
            .arg(root)
            .arg("--init-file")
            .arg(init);
        command.env("RUST_LOG", "warn");
        Ok(command)
    }

    async fn prepare(&self, _port: u16, lanes: usize) -> Result<()> {
        ensure!(lanes <= 16, "the init file names 16 streams");
        Ok(())
    }

    async fn writer(&self, port: u16, lane: usize) -> Result<S2Writer> {
        let request = request("POST", port, &format!("/v1/streams/{}/records", name(lane)))?;
        let (body, answers) = session(port, request, false).await?;
        Ok(S2Writer {
            body,
            answers,
            unanswered: 0,
        })
    }

    async fn reader(&self, port: u16, lane: usize) -> Result<S2Reader> {
        let path = format!("/v1/streams/{}/records?seq_num=0", name(lane));
        let (_, batches) = session(port, request("GET", port, &path)?, true).await?;
        Ok(S2Reader { batches })
    }
}

fn name(lane: usize) -> String {
    format!("feed{lane}")
}

fn request(method: &str, port: u16, path: &str) -> Result<http::Request<()>> {
    Ok(http::Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:{port}{path}"))
        .header("content-type", "s2s/proto")
        .header("s2-basin", BASIN)
        .header("authorization", "Bearer ignored")
        .body(())?)
}

async fn session(
    port: u16,
    request: http::Request<()>,
    ended: bool,
) -> Result<(SendStream<Bytes>, Frames)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut settings = client::Builder::new();
    settings
        .initial_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW);
    let (client, connection) = settings.handshake(stream).await?;
    tokio::spawn(connection);
    let (response, body) = client.ready().await?.send_request(request, ended)?;
    Ok((
        body,
        Frames {
            state: State::Asked(response),
            buffer: BytesMut::new(),
        },
    ))
}

#[derive(Debug)]
enum State {
    Asked(client::ResponseFuture),
    Open(RecvStream),
}

/// The frames of an answer: 3 bytes of length, a byte of flags, a protobuf message.
#[derive(Debug)]
struct Frames {
    state: State,
    buffer: BytesMut,
}

impl Frames {
    /// The first whole frame that has come in.
    fn take(&mut self) -> Result<Option<Bytes>> {
        let Some(head) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let flags = head[3];
        if self.buffer.len() < 3 + length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(3 + length).freeze();
        frame.advance(4);
        if flags & TERMINAL != 0 {
            bail!("s2 ended the session: {}", String::from_utf8_lossy(&frame));
        }
        ensure!(
            flags & 0x60 == 0,
            "s2 sent a compressed frame that nobody asked for"
        );
        Ok(Some(frame))
    }

    async fn next(&mut self) -> Result<Bytes> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            match &mut self.state {
                State::Asked(response) => {
                    let response = response.await?;
                    let status = response.status();
                    ensure!(status.is_success(), "s2 answered {status}");
                    self.state = State::Open(response.into_body());
                }
                State::Open(body) => {
                    let chunk = body.data().await.context("s2 ended the session")??;
                    body.flow_control().release_capacity(chunk.len())?;
                    self.buffer.extend_from_slice(&chunk);
                }
            }
        }
    }
}

#[derive(Debug)]
pub struct S2Writer {
    body: SendStream<Bytes>,
    answers: Frames,
    unanswered: u64,
}

impl S2Writer {
    async fn answer(&mut self) -> Result<()> {
        self.answers.next().await?;
        self.unanswered -= 1;
        Ok(())
    }
}

impl Writer for S2Writer {
    fn batch(&self) -> usize {
        BATCH
    }

    async fn send(&mut self, records: &[u8]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.body.send_data(append(records), false)?;
        self.unanswered += 1;
        while self.unanswered > UNANSWERED {
            self.answer().await?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        while self.unanswered > 0 {
            self.answer().await?;
        }
        Ok(())
    }
}

/// A frame with an `AppendInput`: field 1 is a record, whose field 3 is its body.
fn append(records: &[u8]) -> Bytes {
    const BODY: [u8; 4] = [0x0a, LEN as u8 + 2, 0x1a, LEN as u8];
    const { assert!(LEN + 2 < 128, "lengths of one byte") };
    let count = records.len() / LEN;
    let length = count * (LEN + BODY.len());
    let mut frame = BytesMut::with_capacity(length + 4);
    frame.put_uint(length as u64 + 1, 3);
    frame.put_u8(0);
    for record in records.chunks_exact(LEN) {
        frame.extend_from_slice(&BODY);
        frame.extend_from_slice(record);
    }
    frame.freeze()
}

#[derive(Debug)]
pub struct S2Reader {
    batches: Frames,
}

impl Reader for S2Reader {
    async fn read(&mut self, mut each: impl FnMut(&[u8]) -> Result<()> + Send) -> Result<()> {
        let mut got = false;
        // A heartbeat is a batch without records.
        while !got {
            let batch = self.batches.next().await?;
            fields(&batch, |field, record| {
                if field != 1 {
                    return Ok(());
                }
                fields(record, |field, body| {
                    if field == 4 {
                        got = true;
                        each(body)?;
                    }
                    Ok(())
                })
            })?;
        }
        Ok(())
    }
}

/// Hands on each field of a protobuf message that has a length; skips the numbers.
fn fields(mut bytes: &[u8], mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = varint(&mut bytes)?;
        match tag & 7 {
            0 => {}
            2 => {
                let Some((field, rest)) = bytes.split_at_checked(value as usize) else {
                    bail!("a protobuf field longer than its message");
                };
                each(tag >> 3, field)?;
                bytes = rest;
            }
            kind => bail!("a protobuf field of kind {kind}"),
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes
            .split_first()
            .context("a protobuf number without its end")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a protobuf number of more than ten bytes")
}
