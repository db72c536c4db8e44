//! Places in a feed, and what lies between them.

/// Position of a record in its feed: strictly rising, never reused within an epoch.
pub type Offset = u64;

/// The life of a feed an offset belongs to: Unix milliseconds of its creation, rising.
pub type Epoch = u64;

/// The next offset wanted of a feed's epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub epoch: Epoch,
    pub offset: Offset,
}

/// Offsets `from..to`, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub from: Offset,
    pub to: Offset,
}

impl Span {
    pub fn new(from: Offset, to: Offset) -> Self {
        Self { from, to }
    }

    pub fn len(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    pub fn is_empty(self) -> bool {
        self.to <= self.from
    }

    pub fn contains(self, offset: Offset) -> bool {
        self.from <= offset && offset < self.to
    }
}

/// What can be read of a ring: `head..tail`, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Oldest offset that can be read.
    pub head: Offset,
    /// First unwritten offset.
    pub tail: Offset,
    /// Bytes of the blocks between them.
    pub bytes: u64,
}

/// Offsets that will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub span: Span,
    /// Records in it, where known: offsets need not be dense.
    pub count: Option<u64>,
    pub reason: GapReason,
}

impl Gap {
    /// The part of it before `end`. Its count stays known when no offset of the gap was left out.
    pub fn before(self, end: Offset) -> Self {
        let span = Span::new(self.span.from, self.span.to.min(end));
        let dense = self.count == Some(self.span.len());
        let count = if span == self.span {
            self.count
        } else {
            dense.then_some(span.len())
        };
        Self {
            span,
            count,
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    Evicted,
    Trimmed,
    Jumped,
    Lost,
    Corrupt,
    EpochChanged,
}

impl GapReason {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Trimmed => "trimmed",
            Self::Jumped => "jumped",
            Self::Lost => "lost",
            Self::Corrupt => "corrupt",
            Self::EpochChanged => "epoch_changed",
        }
    }
}
