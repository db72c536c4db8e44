//! Fair turns by bytes. Each leg has a virtual time, which moves on by the bytes that it sends; the
//! one that is least far on is next. A leg that was silent is taken to the stream's own time, so it
//! comes first once, and saves nothing up. (Start-time fair queueing: Goyal, Vin, Cheng, 1996.)

/// The virtual time of a stream: where the leg was that sent last, when it began to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    now: u64,
}

/// How far on one leg is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    sent_to: u64,
}

impl Turns {
    /// The order of turns: the least is next; of equals, who was silent longer.
    pub(super) fn rank(self, share: Share) -> (u64, u64) {
        (share.sent_to.max(self.now), share.sent_to)
    }

    /// A leg has sent so many bytes.
    pub(super) fn take(&mut self, share: &mut Share, bytes: usize) {
        self.now = share.sent_to.max(self.now);
        share.sent_to = self.now.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who sends, in order, of legs that are ready as `ready` says and send so many bytes each.
    fn run(turns: usize, sizes: &[usize], ready: impl Fn(usize, usize) -> bool) -> Vec<usize> {
        let mut clock = Turns::default();
        let mut shares = vec![Share::default(); sizes.len()];
        let next = |turn| {
            let able = (0..sizes.len()).filter(|leg| ready(turn, *leg));
            let next = able.min_by_key(|leg| clock.rank(shares[*leg])).unwrap();
            clock.take(&mut shares[next], sizes[next]);
            next
        };
        (0..turns).map(next).collect()
    }

    #[test]
    fn bytes_are_shared_and_not_turns() {
        let order = run(3_000, &[1_000, 250], |_, _| true);
        let small = order.iter().filter(|leg| **leg == 1).count();
        assert!((2_390..2_410).contains(&small), "{small} of 3,000 turns");
    }

    #[test]
    fn who_was_silent_comes_first_once_and_saved_nothing_up() {
        // The second leg speaks up at turn 500, and from then on always.
        let order = run(600, &[1_000, 1_000], |turn, leg| leg == 0 || turn >= 500);
        assert_eq!(order[500], 1);
        let late = order[500..].iter().filter(|leg| **leg == 1).count();
        assert_eq!(late, 50, "half of what is left");
    }

    #[test]
    fn of_many_that_wait_none_is_left_out() {
        let order = run(100, &[10; 10], |_, _| true);
        for leg in 0..10 {
            assert_eq!(
                order.iter().filter(|turn| **turn == leg).count(),
                10,
                "{leg}"
            );
        }
    }
}
