//! Every metric as a verb.
