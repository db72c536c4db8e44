//! A reader of many streams on one HTTP/2 connection: one task, one buffer, payloads handed on
//! where they lie. Only what a client of this server needs (RFC 9113): no push, no padding, and
//! no header is decoded.

use anyhow::{bail, ensure};
use bytes::{BufMut as _, BytesMut};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    SUBSCRIBE, Target, connect,
    messages::{Messages, TakeMessage},
};
use crate::proto::v1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_LEN: usize = 9;
/// The window a connection begins with.
const FIRST_WINDOW: u32 = 65_535;
const BUFFER_BYTES: usize = 256 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const SETTING_HEADER_TABLE_SIZE: u16 = 1;
const SETTING_ENABLE_PUSH: u16 = 2;
const SETTING_INITIAL_WINDOW: u16 = 4;
const SETTING_MAX_FRAME: u16 = 5;

/// How much may be on its way to us.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::bench) struct Windows {
    pub stream: u32,
    pub connection: u32,
    pub frame: u32,
}

/// One stream and who reads it.
#[derive(Debug)]
pub(in crate::cli::bench) struct Inlet<R> {
    pub reader: R,
    /// The server closed it.
    pub ended: bool,
    messages: Messages,
    /// Bytes taken and not given back to the server's window yet.
    taken: u32,
}

/// A connection with its subscriptions.
#[derive(Debug)]
pub(in crate::cli::bench) struct Link<R> {
    socket: TcpStream,
    target: Target,
    windows: Windows,
    pub inlets: Vec<Inlet<R>>,
    parser: Parser,
    out: BytesMut,
    input: Vec<u8>,
    taken: u32,
}

#[derive(Debug)]
enum Parser {
    /// This much of a header is there.
    Header {
        bytes: [u8; HEADER_LEN],
        have: usize,
    },
    Data {
        inlet: usize,
        left: usize,
        last: bool,
    },
    Other {
        header: Header,
        payload: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Header {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Header {
    fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

const AT_HEADER: Parser = Parser::Header {
    bytes: [0; HEADER_LEN],
    have: 0,
};

impl<R: TakeMessage> Link<R> {
    pub(in crate::cli::bench) async fn open(
        target: &Target,
        windows: Windows,
    ) -> anyhow::Result<Self> {
        let socket = connect(&target.authority).await?;
        let mut out = BytesMut::from(PREFACE);
        let settings = [
            // So that no header needs to be remembered for the ones after it.
            (SETTING_HEADER_TABLE_SIZE, 0),
            (SETTING_ENABLE_PUSH, 0),
            (SETTING_INITIAL_WINDOW, windows.stream),
            (SETTING_MAX_FRAME, windows.frame),
        ];
        frame(&mut out, settings.len() * 6, SETTINGS, 0, 0);
        for (setting, value) in settings {
            out.put_u16(setting);
            out.put_u32(value);
        }
        give_back(&mut out, 0, windows.connection.saturating_sub(FIRST_WINDOW));
        Ok(Self {
            socket,
            target: target.clone(),
            windows,
            inlets: Vec::new(),
            parser: AT_HEADER,
            out,
            input: vec![0; BUFFER_BYTES],
            taken: 0,
        })
    }

    /// Subscribes on a new stream. It is sent with the next `read`.
    pub(in crate::cli::bench) fn subscribe(&mut self, request: &v1::SubscribeRequest, reader: R) {
        let stream = u32::try_from(self.inlets.len() * 2 + 1).unwrap_or(u32::MAX);
        let mut block = BytesMut::new();
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", SUBSCRIBE),
            (":authority", &self.target.authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let bearer = self.target.bearer.as_deref();
        let bearer = bearer.map(|bearer| ("authorization", bearer));
        for (name, value) in headers.into_iter().chain(bearer) {
            literal(&mut block, name, value);
        }
        frame(&mut self.out, block.len(), HEADERS, END_HEADERS, stream);
        self.out.extend_from_slice(&block);
        let len = request.encoded_len();
        frame(&mut self.out, 5 + len, DATA, END_STREAM, stream);
        self.out.put_u8(0);
        self.out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        request.encode_raw(&mut self.out);
        self.inlets.push(Inlet {
            reader,
            ended: false,
            messages: Messages::default(),
            taken: 0,
        });
    }

    /// Sends what is to be sent.
    pub(in crate::cli::bench) async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits for what comes next and takes it. Can be dropped while it waits.
    pub(in crate::cli::bench) async fn read(&mut self) -> anyhow::Result<()> {
        let len = self.socket.read(&mut self.input).await?;
        ensure!(len > 0, "the server closed the connection");
        let input = std::mem::take(&mut self.input);
        let taken = self.take(input.get(..len).unwrap_or_default());
        self.input = input;
        taken?;
        if len == BUFFER_BYTES {
            // There is more: let others have their turn.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn take(&mut self, mut input: &[u8]) -> anyhow::Result<()> {
        while !input.is_empty() {
            match &mut self.parser {
                Parser::Header { bytes, have } => {
                    let (now, rest) = input.split_at((HEADER_LEN - *have).min(input.len()));
                    if let Some(place) = bytes.get_mut(*have..*have + now.len()) {
                        place.copy_from_slice(now);
                    }
                    *have += now.len();
                    input = rest;
                    if *have == HEADER_LEN {
                        let header = Header::parse(*bytes);
                        self.begin(header)?;
                    }
                }
                Parser::Data { .. } => self.data(&mut input)?,
                Parser::Other { header, payload } => {
                    let missing = (header.len - payload.len()).min(input.len());
                    let (now, rest) = input.split_at(missing);
                    payload.extend_from_slice(now);
                    input = rest;
                    if payload.len() == header.len {
                        let (header, payload) = (*header, std::mem::take(payload));
                        self.parser = AT_HEADER;
                        self.other(header, &payload)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: Header) -> anyhow::Result<()> {
        if header.kind != DATA {
            let payload = Vec::new();
            self.parser = Parser::Other { header, payload };
            if header.len == 0 {
                self.parser = AT_HEADER;
                self.other(header, &[])?;
            }
            return Ok(());
        }
        ensure!(!header.has(PADDED), "the server pads its frames");
        let inlet = inlet_of(header.stream);
        let charged = u32::try_from(header.len)?;
        self.taken += charged;
        if self.taken >= self.windows.connection / 2 {
            give_back(&mut self.out, 0, std::mem::take(&mut self.taken));
        }
        let Some(open) = self.inlets.get_mut(inlet) else {
            bail!("data on stream {}, which is not ours", header.stream);
        };
        open.taken += charged;
        if open.taken >= self.windows.stream / 2 {
            give_back(
                &mut self.out,
                header.stream,
                std::mem::take(&mut open.taken),
            );
        }
        let last = header.has(END_STREAM);
        let left = header.len;
        self.parser = Parser::Data { inlet, left, last };
        if left == 0 {
            self.parser = AT_HEADER;
            open.ended |= last;
        }
        Ok(())
    }

    fn data(&mut self, input: &mut &[u8]) -> anyhow::Result<()> {
        let Parser::Data { inlet, left, last } = &mut self.parser else {
            return Ok(());
        };
        let (now, rest) = input.split_at((*left).min(input.len()));
        *input = rest;
        *left -= now.len();
        if let Some(open) = self.inlets.get_mut(*inlet) {
            open.messages.push(now, &mut open.reader)?;
            open.ended |= *last && *left == 0;
        }
        if *left == 0 {
            self.parser = AT_HEADER;
        }
        Ok(())
    }

    fn other(&mut self, header: Header, payload: &[u8]) -> anyhow::Result<()> {
        match header.kind {
            HEADERS if header.has(END_STREAM) => {
                if let Some(open) = self.inlets.get_mut(inlet_of(header.stream)) {
                    open.ended = true;
                }
            }
            SETTINGS if !header.has(ACK) => frame(&mut self.out, 0, SETTINGS, ACK, 0),
            PING if !header.has(ACK) => {
                frame(&mut self.out, payload.len(), PING, ACK, 0);
                self.out.extend_from_slice(payload);
            }
            RST_STREAM => bail!("the server reset a subscription: {}", code(payload)),
            GOAWAY => bail!(
                "the server gave the connection up: {}",
                code(payload.get(4..).unwrap_or_default())
            ),
            // Requests are far smaller than any window; the rest is of no use to us.
            _ => {}
        }
        Ok(())
    }
}

fn inlet_of(stream: u32) -> usize {
    (stream / 2) as usize
}

fn code(payload: &[u8]) -> String {
    let code = payload.first_chunk().map(|code| u32::from_be_bytes(*code));
    code.map_or_else(String::new, |code| {
        h2::Reason::from(code).description().to_owned()
    })
}

fn frame(out: &mut BytesMut, len: usize, kind: u8, flags: u8, stream: u32) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    out.put_uint(u64::from(len), 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// Lets the server send this many bytes more.
fn give_back(out: &mut BytesMut, stream: u32, bytes: u32) {
    if bytes > 0 {
        frame(out, 4, WINDOW_UPDATE, 0, stream);
        out.put_u32(bytes);
    }
}

/// A header that is written out and not remembered (RFC 7541, 6.2.2).
fn literal(block: &mut BytesMut, name: &str, value: &str) {
    block.put_u8(0);
    for text in [name, value] {
        // Names and values of ours are shorter than 127 bytes, where a longer form begins.
        let len = u8::try_from(text.len().min(126)).unwrap_or(126);
        block.put_u8(len);
        block.put_slice(text.as_bytes().get(..usize::from(len)).unwrap_or_default());
    }
}
