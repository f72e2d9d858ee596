//! Three locations, windows of three: the fewest that repeat a location when no neighbours do. It knows nothing of
//! single nodes but that two take turns.
//!
//! Between unequal neighbours each step round the ring is +1 or −1 modulo 3, and a window of three repeats a location
//! exactly where the sign changes. Signs change to and fro, so as often one way, at ABA, BCB and CAC, as the other, at
//! ACA, BAB and CBC. Every other window holds each location once. So counting in how many windows A is, which is three
//! for each of its m places, 3m − Q = ABA + ACA − BCB − CBC, and likewise for B and C. All solutions of these three
//! equations are looked at. (Adding them up shows that at least twice as many windows repeat as the largest share is
//! larger than the smallest.) Two nodes of one location that never has three others in a row within windows of
//! four nodes must take turns, which round a ring an odd number of places does not allow.

/// Larger numbers of changes are not looked for.
const CHANGES_MAX: usize = 1024;
/// Shares of the first two locations that are looked at, at most.
const SHARES_MAX: usize = 1024;

/// The fewest windows of three that repeat one of three locations of these many nodes, when each node has `floor`
/// partitions of `partitions`, and `extra` have one more; None where that would take too long.
pub(super) fn fewest(
    partitions: usize,
    floor: usize,
    extra: usize,
    nodes: [usize; 3],
    node_window: usize,
) -> Option<usize> {
    let most = nodes.map(|nodes| nodes.min(extra));
    if (most[0] + 1) * (most[1] + 1) > SHARES_MAX {
        return None;
    }
    let mut fewest: Option<i64> = None;
    for first in 0..=most[0] {
        for second in 0..=most[1] {
            let Some(third) = extra.checked_sub(first + second).filter(|third| *third <= most[2]) else {
                continue;
            };
            let larger = [first, second, third];
            let shares: [i64; 3] = std::array::from_fn(|at| (nodes[at] * floor + larger[at]) as i64);
            // Which of them must have three others in a row somewhere.
            let stuck: [bool; 3] =
                std::array::from_fn(|at| nodes[at] == 2 && node_window >= 4 && shares[at] % 2 == 1);
            let least = shares.iter().max()? - shares.iter().min()?;
            let end = fewest.unwrap_or(CHANGES_MAX as i64 + 1);
            fewest = (least..end)
                .find(|changes| is_possible(partitions as i64, shares, stuck, *changes))
                .or(fewest);
        }
    }
    fewest.map(|changes| 2 * changes as usize)
}

/// Whether there are as many changes of each kind.
fn is_possible(partitions: i64, shares: [i64; 3], stuck: [bool; 3], changes: i64) -> bool {
    let [a, b, _] = shares.map(|share| 3 * share - partitions);
    (0..=changes).any(|bcb| {
        (0..=changes - bcb).any(|cac| {
            let aba = changes - bcb - cac;
            // From the two equations for A and B, with `changes` in place of their sums.
            let left = 2 * changes - a - 2 * bcb - cac; // BAB + 2 CBC
            let right = changes + b - bcb + cac; // 2 BAB + CBC
            let (bab, cbc) = (2 * right - left, 2 * left - right);
            if bab < 0 || cbc < 0 || bab % 3 != 0 || cbc % 3 != 0 {
                return false;
            }
            let (bab, cbc) = (bab / 3, cbc / 3);
            let aca = changes - bab - cbc;
            let without = [bcb + cbc, aca + cac, aba + bab];
            aca >= 0 && stuck.iter().zip(without).all(|(stuck, without)| !stuck || without > 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::fewest;

    #[test]
    fn shares_that_differ_and_nodes_that_take_turns_are_seen() {
        assert_eq!(fewest(64, 7, 1, [3, 3, 3], 4), Some(2), "22, 21 and 21");
        assert_eq!(fewest(64, 7, 1, [4, 3, 2], 4), Some(26), "28 beside 15");
        assert_eq!(fewest(32, 5, 2, [2, 2, 2], 1), Some(2), "11, 11 and 10");
        assert_eq!(fewest(32, 5, 2, [2, 2, 2], 4), Some(4), "11 is odd, so 12, 10 and 10");
    }
}
