//! Clients of the metadata service: one logic over two ways of reaching a replica.

mod bucket;
mod calls;
mod pages;
mod retry;
mod route;

pub use retry::{Client, ClientSettings, Transport};
