//! Rates and quotas of each principal and of each peer's address: calls and open streams are
//! refused here; records and bytes are counted where they are read, by the quota in the call.
//!
//! A rate may be used up to a second ahead. What is asked beyond it is answered with the time when
//! there is room.

mod bucket;
mod clock;
mod quota;
mod subject;
mod subjects;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::body::Body;
use http::Request;
use tonic::Status;
use tower::Layer;

pub(super) use self::quota::OpenConnection;
pub use self::quota::{Limited, Quota};
use self::{quota::OpenStream, subject::Subject, subjects::Subjects};
use super::{
    Call,
    shape::{Gate, Gated},
};
use crate::model::{Globs, Principal};

/// Probes decide whether the server lives: they are never refused for what others ask.
const HEALTH: &str = "/grpc.health.";

/// What somebody may do; 0: as much as it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub calls_per_second: u32,
    /// Ingested.
    pub records_per_second: u32,
    /// Ingested.
    pub bytes_per_second: u64,
    /// Open at the same time.
    pub streams: u32,
    /// Open at the same time, over which calls of the principal came. Those of an address are the
    /// listener's matter.
    pub connections: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimits {
    pub per_principal: Rates,
    pub per_peer: Rates,
    /// Of some principals, instead of `per_principal`. The first that matches counts.
    pub principals: Vec<(Globs, Rates)>,
}

/// `None`: nothing is limited.
#[derive(Clone, Debug)]
pub struct RateLimitLayer(Option<Arc<Limiter>>);

#[derive(Debug)]
struct Limiter {
    limits: RateLimits,
    principals: Subjects<Principal>,
    peers: Subjects<IpAddr>,
}

impl Rates {
    fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl RateLimitLayer {
    pub fn new(limits: RateLimits) -> Self {
        let mut rates = limits.principals.iter().map(|(_, rates)| rates);
        let unlimited = limits.per_principal.is_unlimited()
            && limits.per_peer.is_unlimited()
            && rates.all(Rates::is_unlimited);
        let limiter = || {
            Arc::new(Limiter {
                limits,
                principals: Subjects::default(),
                peers: Subjects::default(),
            })
        };
        Self((!unlimited).then(limiter))
    }
}

impl Limiter {
    /// Gives the call its quota, and takes from it what a call takes.
    fn admit(&self, call: &Call) -> Result<Option<OpenStream>, Limited> {
        if call.rpc.path.starts_with(HEALTH) {
            return Ok(None);
        }
        let peer = call.peer.as_ref().map(|peer| peer.address.ip());
        let quota = Quota::new(self.principal(call.principal()), self.peer(peer));
        call.limit(quota.clone());
        if let Some(peer) = &call.peer {
            quota.connect(&call.principal(), peer)?;
        }
        quota.take_call()?;
        let streams = call.rpc.is_stream().then(|| quota.open_stream());
        streams.transpose()
    }

    fn principal(&self, principal: Principal) -> Option<Arc<Subject>> {
        let limits = &self.limits;
        let mut own = limits.principals.iter();
        let own = own.find(|(globs, _)| globs.matches(&principal));
        let rates = own.map_or(&limits.per_principal, |(_, rates)| rates);
        let make = |name: &Principal| Subject::new(format!("principal {name}"), rates);
        (!rates.is_unlimited()).then(|| self.principals.of(principal, make))
    }

    fn peer(&self, address: Option<IpAddr>) -> Option<Arc<Subject>> {
        let rates = &self.limits.per_peer;
        let address = network(address.filter(|_| !rates.is_unlimited())?);
        let make = |address: &IpAddr| {
            let prefix = if address.is_ipv6() { "/64" } else { "" };
            Subject::new(format!("address {address}{prefix}"), rates)
        };
        Some(self.peers.of(address, make))
    }
}

/// Whoever has one address of IPv6 has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let host = Ipv6Addr::from_bits(u128::from(u64::MAX));
            Ipv6Addr::from_bits(address.to_bits() & !host.to_bits()).into()
        }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = Gated<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let gate = self.clone();
        Gated { inner, gate }
    }
}

impl Gate for RateLimitLayer {
    fn admit(&self, call: &Arc<Call>, request: Request<Body>) -> Result<Request<Body>, Status> {
        if let Some(limiter) = &self.0 {
            let stream = limiter.admit(call).map_err(|limited| limited.status())?;
            stream.into_iter().for_each(|stream| call.watch(stream));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
