//! Persisted state of both sides: the manifest log, and (`home`) identity, tickets, ownership and receipts.

pub mod log;
