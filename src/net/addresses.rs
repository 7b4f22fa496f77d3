//! Where this machine can be reached, for tickets. It asks the machine's interfaces and nobody on the network, so a
//! listener behind address translation has to be told its outer address by its user.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Addresses under which a socket bound to `bound` can be reached, best first: what routes, then what reaches this
/// machine only. A socket that is bound to one address has just that.
pub(super) fn reachable(bound: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    if !bound.ip().is_unspecified() {
        return Ok(vec![SocketAddr::new(bound.ip().to_canonical(), bound.port())]);
    }
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(ranked(interfaces.iter().map(|interface| interface.ip()), bound))
}

fn ranked(all: impl Iterator<Item = IpAddr>, bound: SocketAddr) -> Vec<SocketAddr> {
    let mut usable: Vec<IpAddr> = all.filter(|ip| is_usable(ip) && (bound.is_ipv6() || ip.is_ipv4())).collect();
    // Stable: within a class the order of the interfaces stands, which is the order of the machine.
    usable.sort_by_key(|ip| (ip.is_loopback(), is_private_v6(ip)));
    let mut seen = Vec::with_capacity(usable.len());
    for ip in usable {
        let address = SocketAddr::new(ip, bound.port());
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

/// Link-local addresses mean nothing on another machine without the name of an interface there.
fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified() && !ip.is_multicast(),
    }
}

fn is_private_v6(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unique_local())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn shown(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn what_routes_comes_first_and_loopback_last() {
        let machine = ips(&[
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::5",
            "169.254.3.4",
            "192.168.1.5",
            "2001:db8::5",
            "192.168.1.5",
        ]);
        let dual = ranked(machine.iter().copied(), "[::]:7".parse().unwrap());
        assert_eq!(shown(&dual), ["192.168.1.5:7", "[2001:db8::5]:7", "[fd00::5]:7", "127.0.0.1:7", "[::1]:7"]);
        let v4 = ranked(machine.into_iter(), "0.0.0.0:7".parse().unwrap());
        assert_eq!(shown(&v4), ["192.168.1.5:7", "127.0.0.1:7"]);
    }

    #[test]
    fn a_socket_bound_to_one_address_has_that_one() {
        assert_eq!(shown(&reachable("127.0.0.1:9".parse().unwrap()).unwrap()), ["127.0.0.1:9"]);
        assert_eq!(shown(&reachable("[::ffff:192.0.2.1]:9".parse().unwrap()).unwrap()), ["192.0.2.1:9"]);
    }

    #[test]
    fn this_machine_reaches_itself_by_loopback_last() {
        let all = reachable("0.0.0.0:9".parse().unwrap()).unwrap();
        assert!(all.last().unwrap().ip().is_loopback(), "{all:?}");
    }
}
