//! Ports for processes that keep theirs over restarts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};
use enfilade_cluster::env::Env;

/// Ports below this are often taken by services.
const LOWEST: u64 = 10_000;

/// Where the system takes ports for outgoing connections from, unless it says otherwise.
const OUTGOING_DEFAULT: u64 = 32_768;

const ATTEMPTS: u32 = 2_000;

/// Free ports of the loopback interface, each asked from the system by binding it.
///
/// They lie below those of outgoing connections: a port that a process keeps must not be taken by
/// some client's connection while the process is down.
///
/// # Errors
/// When there are not enough.
pub(crate) fn free(count: usize, env: &Env) -> Result<Vec<SocketAddr>> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let outgoing = range.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    let span = outgoing.unwrap_or(OUTGOING_DEFAULT).saturating_sub(LOWEST);
    let mut held = Vec::with_capacity(count);
    for _ in 0..ATTEMPTS {
        if held.len() == count {
            break;
        }
        let port = if span < 1_000 {
            0
        } else {
            LOWEST + env.random.next_u64() % span
        };
        let port = u16::try_from(port).unwrap_or(0);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push(listener);
        }
    }
    let addresses: Result<Vec<SocketAddr>, _> = held.iter().map(TcpListener::local_addr).collect();
    match addresses {
        Ok(addresses) if addresses.len() == count => Ok(addresses),
        _ => bail!("{count} free ports were not found on the loopback interface"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let addresses = free(20, &Env::real()).unwrap();
        let distinct: BTreeSet<_> = addresses.iter().collect();
        assert_eq!(distinct.len(), 20);
        TcpListener::bind(addresses[0]).unwrap();
    }
}
