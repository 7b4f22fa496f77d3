//! The proxy does what its dials say, measured from both of its sides; and a few of its scenarios with the shipped
//! program between them.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "proxy/line.rs"]
mod line;
#[path = "proxy/product.rs"]
mod product;
