//! How work finds the node that does it, and how whoever asks for work comes in.
//!
//! [`door`] is what a request to the product does, whether it came over HTTP or by actor message;
//! it holds payloads against their [`schemas`] and tells [`route`] of the work that it made.

pub mod door;
pub mod route;
pub mod schemas;
