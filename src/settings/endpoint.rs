//! Where a node is reached by others: a host and a port as one text. It decides what such a text looks like; it
//! asks nobody whether the host is there.

use std::net::{IpAddr, Ipv6Addr};

/// Bytes of a host's name, as in DNS.
const HOST_BYTES_MAX: usize = 253;

/// Whether the text is `host:port`, with an IPv6 address in brackets, and others could reach something there:
/// neither port 0 nor the address that stands for all of a machine's own.
pub(super) fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    digits && port.parse::<u16>().is_ok_and(|port| port > 0) && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| !address.is_unspecified());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_ipv4() && !address.is_unspecified();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A last part of digits only is an address with an error in it, and no resolver takes it for a name.
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= HOST_BYTES_MAX
        && host.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_with_a_port_are_endpoints() {
        for right in ["10.0.0.1:8099", "[::1]:1", "n1:65535", "n1.rack-2.example:8099", "node_1:8099"] {
            assert!(is_endpoint(right), "{right}");
        }
        for wrong in [
            "",
            ":",
            "n1",
            "n1:",
            ":8099",
            "n1:0",
            "n1:65536",
            "n1:+1",
            "n1:1 ",
            " n1:1",
            "0.0.0.0:1",
            "[::]:1",
            "::1:8099",
            "[::1]",
            "[n1]:1",
            "-n1:1",
            "n1-:1",
            "a..b:1",
            "10.0.0:1",
            "10.0.0.256:1",
            "http://n1:1",
            "n1:1/",
            "ä:1",
            "u@n1:1",
            "n1:1,n2:1",
            "[10.0.0.1]:1",
        ] {
            assert!(!is_endpoint(wrong), "{wrong}");
        }
        assert!(!is_endpoint(&format!("{}:1", "a".repeat(64))));
        assert!(!is_endpoint(&format!("{}:1", "a.".repeat(200))));
    }

    proptest! {
        #[test]
        fn every_socket_address_that_can_be_reached_is_one(address: std::net::SocketAddr) {
            let reachable = address.port() > 0 && !address.ip().is_unspecified();
            let scoped = matches!(address, std::net::SocketAddr::V6(v6) if v6.scope_id() != 0);
            prop_assert_eq!(is_endpoint(&address.to_string()), reachable && !scoped);
        }

        #[test]
        fn any_text_is_taken_or_refused(text: String) {
            let _ = is_endpoint(&text);
        }
    }
}
