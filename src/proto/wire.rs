//! The zero-copy view of a record.
