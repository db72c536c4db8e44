//! Ingest calls with messages that are bytes already.

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::future::poll_fn;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Method, Request, Uri, Version};
use prost::Message as _;

use super::{INGEST, Target, connect};
use crate::proto::v1;

/// A connection for uploads; it closes with the last of its clones.
#[derive(Clone, Debug)]
pub(in crate::cli::bench) struct Uplink {
    sender: SendRequest<Bytes>,
    uri: Uri,
    bearer: Option<String>,
}

impl Uplink {
    pub(in crate::cli::bench) async fn open(target: &Target) -> anyhow::Result<Self> {
        let socket = connect(&target.authority).await?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .max_send_buffer_size(1 << 20)
            .handshake(socket)
            .await?;
        tokio::spawn(async move {
            // What ends the connection fails its calls, which say so.
            connection.await.ok();
        });
        let uri = Uri::builder()
            .scheme("http")
            .authority(target.authority.as_str())
            .path_and_query(INGEST)
            .build()?;
        let bearer = target.bearer.clone();
        Ok(Self {
            sender,
            uri,
            bearer,
        })
    }

    /// Opens an Ingest call.
    pub(in crate::cli::bench) async fn call(&self) -> anyhow::Result<Call> {
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(self.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        let request = request.body(())?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, stream) = sender.send_request(request, false)?;
        Ok(Call { stream, response })
    }
}

/// An Ingest call under way.
#[derive(Debug)]
pub(in crate::cli::bench) struct Call {
    stream: SendStream<Bytes>,
    response: ResponseFuture,
}

impl Call {
    /// Sends as much at a time as the server lets us. `Err` is the server's refusal.
    pub(in crate::cli::bench) async fn send(&mut self, mut bytes: Bytes) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            self.stream.reserve_capacity(bytes.len());
            let granted = poll_fn(|cx| self.stream.poll_capacity(cx)).await;
            let Some(Ok(granted)) = granted else {
                bail!("the server ended the upload: {}", self.refusal().await);
            };
            let now = bytes.split_to(granted.min(bytes.len()));
            self.stream.send_data(now, false)?;
        }
        Ok(())
    }

    async fn refusal(&mut self) -> String {
        match answer(&mut self.response).await {
            Ok(_) => "too early".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Ends the upload and waits for its summary: everything stored is durable then.
    pub(in crate::cli::bench) async fn finish(mut self) -> anyhow::Result<v1::IngestResponse> {
        self.stream.send_data(Bytes::new(), true)?;
        answer(&mut self.response).await
    }
}

async fn answer(response: &mut ResponseFuture) -> anyhow::Result<v1::IngestResponse> {
    let (head, mut body) = response.await?.into_parts();
    ensure!(head.status.is_success(), "the server said {}", head.status);
    check(&head.headers)?;
    let bytes = read(&mut body).await?;
    if let Some(trailers) = body.trailers().await? {
        check(&trailers)?;
    }
    let message = bytes.get(5..).context("the upload has no summary")?;
    Ok(v1::IngestResponse::decode(message)?)
}

async fn read(body: &mut RecvStream) -> anyhow::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Fails with the status that headers or trailers carry, unless it is OK.
fn check(headers: &HeaderMap) -> anyhow::Result<()> {
    if let Some(status) = tonic::Status::from_header_map(headers) {
        ensure!(
            status.code() == tonic::Code::Ok,
            "{} ({:?})",
            status.message(),
            status.code()
        );
    }
    Ok(())
}
