//! The other end of the wire: connect, upload, follow. For the command line, the demo, benches and
//! users of the library.
//!
//! ```text
//! ConnectOptions -> Connection -> Uploader       batches, resends what a cut left undecided
//!                              -> Subscription   resumes by itself, checks P1 and P2
//!                              -> Session        the same, with selectors that come and go
//!                              -> Publisher      an ack per batch, goes on after a cut
//!                              -> Subscription   resumes from its own cursors, checks P1 and P2
//! ```

mod bearer;
mod calls;
mod connect;
mod event;
#[cfg(test)]
mod fake;
mod ingest;
mod ledger;
mod publish;
mod retry;
mod session;
mod subscribe;

pub use bearer::{Bearer, InvalidToken, Token, TokenFileError};
pub use connect::{
    CatalogClient, ConnectError, ConnectOptions, Connection, FeedClient, TlsOptions,
};
pub use event::Event;
pub use ingest::{UploadError, UploadEvent, UploadOptions, UploadSummary, Uploader};
pub use ledger::{
    Broken, Fault, Fresh, GapEntry, Lane, Ledger, Loss, Offsets, Reopened, Report, record_offset,
};
pub use publish::{PublishError, PublishOptions, Published, Publisher, Receipt};
pub use retry::{
    Backoff, FirstConnect, Retry, RetryOptions, is_fenced, is_over_limit, retry, unreachable,
};
pub use session::Session;
pub use subscribe::{SelectorCursor, SubscribeError, Subscription};
