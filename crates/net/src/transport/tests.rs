//! The link from outside: real sockets on 127.0.0.1.

mod failing;
mod joining;
mod process;
mod relay;
mod script;
mod strangers;
mod world;
