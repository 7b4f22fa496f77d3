//! Persisted state of both sides: the manifest log, and (`home`) identity, tickets, ownership and receipts.

mod blocks;
pub mod closing;
pub mod deletions;
pub mod files;
pub mod given;
pub mod home;
pub mod limit;
pub mod lists;
pub mod lock;
pub mod log;
pub mod outcome;
pub mod receipts;
pub mod stream;
pub mod survey;
mod text;
pub mod transfer;

#[cfg(test)]
mod tests;
