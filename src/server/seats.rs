//! How many connections there may be: of all peers, of one peer, and of those that have asked for
//! nothing yet.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// A place for each connection.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    /// 0: as many as it wants.
    max_per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_peer: HashMap<IpAddr, usize>,
}

/// Which cap there was no seat under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Peer,
}

impl Full {
    /// The label in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Peer => "per_peer",
        }
    }
}

/// Taken by one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    peer: IpAddr,
}

impl Seats {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_peer,
            taken: Mutex::default(),
        })
    }

    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Full> {
        let peer = network(address);
        let mut taken = self.taken.lock();
        if taken.all >= self.max {
            return Err(Full::All);
        }
        if self.max_per_peer > 0 {
            let of_peer = taken.of_peer.entry(peer).or_default();
            if *of_peer >= self.max_per_peer {
                return Err(Full::Peer);
            }
            *of_peer += 1;
        }
        taken.all += 1;
        let seats = Arc::clone(self);
        Ok(Seat { seats, peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.all -= 1;
        if let Some(of_peer) = taken.of_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.of_peer.remove(&self.peer);
            }
        }
    }
}

/// What counts as one peer: an address, of IPv6 the network of one site.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Connections that have asked for nothing yet. One beyond the greatest number sends the oldest
/// away: who means it asks within moments, so those who only hold places open lose theirs.
#[derive(Debug)]
pub(super) struct Lobby {
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// A connection in the lobby, until it is dropped.
#[derive(Debug)]
pub(super) struct Newcomer {
    lobby: Arc<Lobby>,
    number: u64,
    /// Cancelled when it is sent away.
    pub(super) away: CancellationToken,
}

impl Lobby {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            waiting: Mutex::default(),
        })
    }

    pub(super) fn enter(self: &Arc<Self>) -> Newcomer {
        let away = CancellationToken::new();
        let mut waiting = self.waiting.lock();
        if waiting.by_age.len() >= self.max
            && let Some((_, oldest)) = waiting.by_age.pop_first()
        {
            oldest.cancel();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_age.insert(number, away.clone());
        Newcomer {
            lobby: Arc::clone(self),
            number,
            away,
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.lobby.waiting.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_seat_is_free_again_when_its_connection_is_gone() {
        let seats = Seats::new(3, 2);
        let first = seats.take(ip("10.0.0.1")).unwrap();
        let _second = seats.take(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(seats.take(ip("10.0.0.1")).unwrap_err(), Full::Peer);
        let _third = seats.take(ip("10.0.0.2")).unwrap();
        assert_eq!(seats.take(ip("10.0.0.3")).unwrap_err(), Full::All);
        drop(first);
        let again = seats.take(ip("10.0.0.1")).unwrap();
        drop(again);
        assert_eq!(seats.taken.lock().all, 2);
        assert_eq!(seats.taken.lock().of_peer.len(), 2);
    }

    #[test]
    fn a_site_of_ipv6_is_one_peer() {
        let seats = Seats::new(10, 1);
        let _first = seats.take(ip("2001:db8:1:2::1")).unwrap();
        assert_eq!(seats.take(ip("2001:db8:1:2::2")).unwrap_err(), Full::Peer);
        let _other = seats.take(ip("2001:db8:1:3::1")).unwrap();
    }

    #[test]
    fn the_oldest_newcomer_gives_way() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter(), lobby.enter());
        assert!(!first.away.is_cancelled());
        let third = lobby.enter();
        assert!(first.away.is_cancelled() && !second.away.is_cancelled());
        drop(second);
        let _fourth = lobby.enter();
        assert!(!third.away.is_cancelled());
    }
}
