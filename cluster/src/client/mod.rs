//! Clients of the metadata service: one logic over two ways of reaching a replica.

mod bucket;
mod calls;
mod pages;
mod retry;
mod route;

pub mod in_process;
pub mod remote;

pub use in_process::InProcess;
pub use remote::Remote;
pub(crate) use remote::call_replica;
pub use retry::{Client, ClientSettings, Transport};
