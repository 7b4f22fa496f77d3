//! What brains ask of hands, and what they hear from them. Ids, counts and verdicts: never names or bytes.

pub mod receiver;
pub mod sender;
