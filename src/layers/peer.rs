//! The other end of a connection, as the connection itself shows it. The listener puts it into each
//! request.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use crate::model::Principal;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plaintext,
    Tls,
}

#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub security: Security,
    /// Of the client certificate, where one was shown and is trusted: its first subject alternative
    /// name.
    pub certificate: Option<Principal>,
    /// Cancelled when the connection is at its greatest age: its streams are to end.
    pub leaving: CancellationToken,
}
