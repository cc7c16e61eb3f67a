//! The example server as its users meet it: a process of its own, real sockets, real files, real kill -9.

mod server;
mod survival;
