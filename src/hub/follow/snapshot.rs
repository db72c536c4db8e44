//! The snapshot a follower begins with.

use std::sync::Arc;

use crate::hub::{snapshot::Snapshot, views::View};

/// What is left of a snapshot to be sent.
#[derive(Debug)]
pub(in crate::hub) struct Pages {
    snapshot: Arc<Snapshot>,
    next: usize,
}

impl Pages {
    pub(in crate::hub) fn of(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, next: 0 }
    }

    pub(super) fn next(&mut self) -> Option<View> {
        let page = self.snapshot.page(self.next)?;
        self.next += 1;
        Some(page)
    }
}
