//! Measures landfall: beside other tools ([`peers`]), guarantee by guarantee ([`overhead`]), after a kill ([`resume`]),
//! as trees grow ([`scale`]) and over a bad line ([`wan`]); [`record`] shows it. `README.md` shows it to its users. Nothing here is part of
//! the shipped program, and no tool judges itself: [`oracle`] compares bytes after the clock has stopped.
//!
//! What the commands share: [`load`] makes the trees, [`tools`] runs programs (ssh by [`sshd`], landfall by [`pair`]),
//! [`measure`] holds the clock, [`table`] and [`plot`] show the figures, [`machine`] says where they come from.

pub mod child;
pub mod cli;
pub mod direct;
pub mod lax_disk;
pub mod load;
pub mod machine;
pub mod measure;
pub mod oracle;
pub mod overhead;
pub mod pair;
pub mod peers;
pub mod pipe;
pub mod plot;
pub mod program;
pub mod record;
pub mod resume;
pub mod scale;
pub mod sshd;
pub mod table;
pub mod tools;
pub mod wan;
