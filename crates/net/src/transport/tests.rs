//! Black-box tests of the transport, with real sockets on 127.0.0.1.

mod certs_script;
mod failing;
mod fixture;
mod joining;
mod process;
mod relay;
mod unauthenticated;
