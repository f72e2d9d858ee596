//! The members of a cluster as a person sees them: the table, the lines below it, and what stands between the
//! cluster and peace. It decides the words; what they say comes from a node.

use crate::cli::table::{Align, Table, counted, percent};
use ringwork_runtime::administration::{Availability, ClusterStatus, MemberStatus};

/// Members that are named one by one where something stands in the way.
const NAMED_MAX: usize = 8;

/// How a member can be reached, in a word.
pub(crate) fn availability(available: Availability) -> &'static str {
    match available {
        Availability::Up => "up",
        Availability::Suspect => "suspect",
        Availability::Down => "down",
    }
}

/// The table of members, in the order they come in.
pub(crate) fn members_table(members: &[MemberStatus]) -> Table {
    let mut table = Table::new(&[
        ("node", Align::Left),
        ("status", Align::Left),
        ("seen", Align::Left),
        ("share", Align::Right),
        ("to be", Align::Right),
        ("location", Align::Left),
        ("address", Align::Left),
        ("services", Align::Left),
    ]);
    for member in members {
        table.row([
            member.name.clone(),
            member.status.clone(),
            availability(member.available).to_owned(),
            percent(member.share),
            percent(member.pending_share),
            member.location.clone().unwrap_or_default(),
            member.address.clone(),
            member.services.join(", "),
        ]);
    }
    table
}

/// Names in one line, not more than fit.
fn named(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    let rest = names.len().saturating_sub(NAMED_MAX);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

/// Whether everybody knows the newest state, in words.
pub(crate) fn ring_line(ring_ready: bool, waiting_for: &[String]) -> String {
    match (ring_ready, waiting_for) {
        (true, _) => "ready".to_owned(),
        (false, []) => "not ready".to_owned(),
        (false, waiting_for) => format!("waiting for {}", named(waiting_for)),
    }
}

/// The lines below the table: name and value.
pub(super) fn cluster_lines(cluster: &ClusterStatus) -> Vec<(&'static str, String)> {
    let settled = match cluster.settled {
        true => "yes".to_owned(),
        false => format!("no: {}", obstacles(&cluster.members, cluster.ring_ready, &cluster.waiting_for)),
    };
    vec![
        ("cluster", cluster.cluster.clone()),
        ("seen by", cluster.node.clone()),
        ("claimant", claimant(cluster.claimant.as_deref())),
        ("epoch", cluster.epoch.to_string()),
        ("ring", ring_line(cluster.ring_ready, &cluster.waiting_for)),
        ("settled", settled),
    ]
}

/// Who may change the target.
pub(crate) fn claimant(claimant: Option<&str>) -> String {
    claimant.map_or_else(|| "none: every member is marked down".to_owned(), str::to_owned)
}

/// What stands between the cluster and being settled.
pub(crate) fn obstacles(members: &[MemberStatus], ring_ready: bool, waiting_for: &[String]) -> String {
    let mut found = Vec::new();
    let due = |member: &MemberStatus| member.pending_partitions.saturating_sub(member.partitions);
    let pending: usize = members.iter().map(due).sum();
    if pending > 0 {
        let to: Vec<String> = members
            .iter()
            .filter(|member| due(member) > 0)
            .map(|member| format!("{} to {}", due(member), member.name))
            .collect();
        let what = counted(pending, "partition has", "partitions have");
        found.push(format!("{what} yet to move ({})", named(&to)));
    }
    if !ring_ready && !waiting_for.is_empty() {
        let have = if waiting_for.len() == 1 { "has" } else { "have" };
        found.push(format!("{} {have} not seen the newest state of the cluster", named(waiting_for)));
    }
    let unreached: Vec<String> = members
        .iter()
        .filter(|member| member.available != Availability::Up && member.status != "down")
        .map(|member| format!("{} ({})", member.name, availability(member.available)))
        .collect();
    if !unreached.is_empty() {
        found.push(format!("not answering: {}", named(&unreached)));
    }
    if found.is_empty() {
        found.push("a node still holds data of another; `ringwork ring status` shows it".to_owned());
    }
    found.join("; ")
}
