//! The other end of a connection, as the connection itself shows it. The listener puts it into each
//! request.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::rate_limit::OpenConnection;
use crate::model::Principal;

/// Places of a connection among those that its principals may have; given back when it is closed and
/// its last call is over.
#[derive(Clone, Debug, Default)]
pub struct Places(pub(super) Arc<Mutex<Vec<(Principal, OpenConnection)>>>);

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
    /// The principals that called over the connection, and count it as theirs while it is open.
    pub places: Places,
}
