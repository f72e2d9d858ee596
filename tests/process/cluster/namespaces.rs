//! Network namespaces joined by two bridges: one between the nodes, where a node can be cut off, and one for those who
//! ask them, which stays whole. Needs root and `ip`; everything is taken apart again, also after a failure.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// Namespaces on bridges of their own.
pub(super) struct Namespaces {
    /// Distinct between tests that run at the same time, and short: names of links have at most 15 bytes.
    tag: String,
    subnet: u8,
    count: u8,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}

impl Namespaces {
    /// Makes them; or says why this machine cannot.
    pub(super) fn create(count: u8) -> Result<Self, String> {
        let process = std::process::id();
        let made = Self { tag: format!("rw{process}"), subnet: process.to_le_bytes()[0] & !1, count };
        made.build().map(|()| made)
    }

    fn build(&self) -> Result<(), String> {
        let tag = &self.tag;
        for (network, bridge) in [("cl", 0), ("mg", 1)] {
            ip(&format!("link add {tag}{network} type bridge"))?;
            if bridge == 1 {
                let host = self.address(1, 254);
                ip(&format!("addr add {host}/24 dev {tag}{network}"))?;
            }
            ip(&format!("link set {tag}{network} up"))?;
        }
        for number in 1..=self.count {
            let namespace = self.name(number);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            for (network, bridge) in [("cl", 0), ("mg", 1)] {
                let (link, address) = (format!("{tag}{network}{number}"), self.address(bridge, number));
                ip(&format!("link add {link} type veth peer name {network} netns {namespace}"))?;
                ip(&format!("link set {link} master {tag}{network} up"))?;
                ip(&format!("-n {namespace} addr add {address}/24 dev {network}"))?;
                ip(&format!("-n {namespace} link set {network} up"))?;
            }
        }
        Ok(())
    }

    fn address(&self, bridge: u8, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 217, self.subnet + bridge, host))
    }

    /// The name of the namespace of a node, counted from 1.
    pub(super) fn name(&self, number: u8) -> String {
        format!("{}-{number}", self.tag)
    }

    /// Where the other nodes reach it.
    pub(super) fn among_nodes(&self, number: u8) -> IpAddr {
        self.address(0, number)
    }

    /// Where this process reaches it, also when it is cut off.
    pub(super) fn reached_at(&self, number: u8) -> IpAddr {
        self.address(1, number)
    }

    /// Pulls a node's plug out of the bridge between the nodes: what it sends and is sent vanishes, and nobody is told.
    pub(super) fn cut_off(&self, number: u8) {
        ip(&format!("link set {}cl{number} nomaster", self.tag)).unwrap();
    }

    /// Puts it back.
    pub(super) fn heal(&self, number: u8) {
        ip(&format!("link set {0}cl{number} master {0}cl", self.tag)).unwrap();
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for number in 1..=self.count {
            let _ = ip(&format!("netns del {}", self.name(number)));
            // A namespace takes its links along; without it they are still there.
            let _ = ip(&format!("link del {}cl{number}", self.tag));
            let _ = ip(&format!("link del {}mg{number}", self.tag));
        }
        let _ = ip(&format!("link del {}cl", self.tag));
        let _ = ip(&format!("link del {}mg", self.tag));
    }
}
