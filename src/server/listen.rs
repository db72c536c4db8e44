//! Takes connections in, as many as may be, until the server stops; and waits for their end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::sleep,
};

use super::{
    connection::{self, Shared, Stop},
    seats::Seats,
};
use crate::metrics;

/// Before the next connection is taken when there was no descriptor or memory for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `listener` until `stop` says so and the last connection has ended.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    seats: Arc<Seats>,
    stop: watch::Receiver<Stop>,
) {
    // Each connection holds a sender; the last one that goes ends the channel.
    let (open, mut all_ended) = mpsc::channel::<()>(1);
    let mut stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop > Stop::No) => break,
        };
        match accepted {
            Ok((stream, address)) => match seats.take(address.ip()) {
                Ok(seat) => {
                    let life =
                        connection::serve(Arc::clone(&shared), stream, address, stop.clone());
                    let open = open.clone();
                    tokio::spawn(async move {
                        life.await;
                        drop((seat, open));
                    });
                }
                Err(full) => refuse(stream, address, full.name()),
            },
            Err(error) => failed(&error).await,
        }
    }
    // A peer that comes now is told so by its kernel.
    drop(listener);
    drop(open);
    all_ended.recv().await;
}

fn refuse(stream: TcpStream, address: SocketAddr, reason: &'static str) {
    drop(stream);
    tracing::debug!(%address, reason, "a connection over a limit was closed");
    metrics::count_connection_refused(reason);
}

/// One connection that did not come about says nothing of the next. Without a descriptor or memory
/// left the next one fails at once too: then others have to end first.
async fn failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    ) {
        return;
    }
    metrics::count_connection_refused("accept");
    tracing::warn!(%error, "a connection cannot be taken; are there enough file descriptors?");
    sleep(PAUSE).await;
}
