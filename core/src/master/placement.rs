//! Which servers get a replica: a pure choice, weighted by free space and load, over distinct servers and spread racks.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{ServerId, VolumeId};
use crate::rng::Rng;

/// A server that could take a replica, with the volume that would.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Candidate {
    pub(super) server: ServerId,
    pub(super) volume: VolumeId,
    pub(super) rack: String,
    /// Free bytes on that volume.
    pub(super) free: u64,
    /// Streams that it serves.
    pub(super) load: u32,
    /// The asker had trouble with it: used only when the others do not suffice.
    pub(super) avoid: bool,
}

/// Picks up to `want` of the candidates, one after the other, each time from a rack with the fewest replicas so far
/// (`taken` are the racks of replicas that exist already), at random with weight `free / (load + 1)`.
pub(super) fn choose(candidates: &[Candidate], want: usize, taken: &[&str], rng: &mut Rng) -> Vec<Candidate> {
    let mut racks: BTreeMap<&str, usize> = BTreeMap::new();
    for rack in taken {
        *racks.entry(rack).or_default() += 1;
    }
    let mut left: Vec<&Candidate> = candidates.iter().collect();
    let mut chosen: Vec<Candidate> = Vec::new();
    while chosen.len() < want && !left.is_empty() {
        let crowd = |c: &Candidate| racks.get(c.rack.as_str()).copied().unwrap_or(0);
        let best = left.iter().map(|c| (c.avoid, crowd(c))).min().unwrap_or_default();
        let pool: Vec<usize> = (0..left.len()).filter(|&i| (left[i].avoid, crowd(left[i])) == best).collect();
        let picked = left.remove(pool[weighted(&pool, |&i| weight(left[i]), rng)]);
        *racks.entry(picked.rack.as_str()).or_default() += 1;
        left.retain(|c| c.server != picked.server);
        chosen.push(picked.clone());
    }
    chosen
}

/// MiB free for each stream, at least 1 so that every candidate can be chosen.
fn weight(candidate: &Candidate) -> u64 {
    (candidate.free >> 20) / (u64::from(candidate.load) + 1) + 1
}

/// The place in `items` of one drawn at random with the given weights.
pub(super) fn weighted<T>(items: &[T], weight: impl Fn(&T) -> u64, rng: &mut Rng) -> usize {
    let total: u64 = items.iter().map(&weight).sum();
    let mut draw = rng.below(total);
    for (i, item) in items.iter().enumerate() {
        let weight = weight(item);
        if draw < weight {
            return i;
        }
        draw -= weight;
    }
    items.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::collections::BTreeSet;
    use alloc::format;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    /// `server rack free-GiB load [avoid]` on each line.
    fn parse(table: &str) -> Vec<Candidate> {
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let server = words[0].parse().unwrap();
            Candidate {
                server: ServerId(server),
                volume: VolumeId(server * 10),
                rack: words[1].into(),
                free: words[2].parse::<u64>().unwrap() << 30,
                load: words[3].parse().unwrap(),
                avoid: words.get(4) == Some(&"avoid"),
            }
        };
        table.lines().map(str::trim).filter(|l| !l.is_empty()).map(line).collect()
    }

    /// How often each server was chosen in 1,000 draws, and the distinct sets of racks.
    fn draw(table: &str, want: usize, taken: &[&str]) -> String {
        let candidates = parse(table);
        let (mut counts, mut racks) = (BTreeMap::new(), BTreeSet::new());
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            let chosen = choose(&candidates, want, taken, &mut rng);
            let mut set: Vec<String> = chosen.iter().map(|c| c.rack.clone()).collect();
            set.sort();
            racks.insert(set.join("+"));
            for c in chosen {
                *counts.entry(c.server.0).or_insert(0) += 1;
            }
        }
        let racks: Vec<String> = racks.into_iter().collect();
        format!("{counts:?} racks {}", racks.join(" "))
    }

    #[test]
    fn choices() {
        let three = "1 a 10 0\n2 a 10 0\n3 a 10 0";
        let racks = "1 a 10 0\n2 a 10 0\n3 b 10 0\n4 b 10 0";
        let uneven = "1 a 100 0\n2 a 10 0\n3 a 1 0";
        let loaded = "1 a 10 0\n2 a 10 9\n3 a 10 9";
        let avoided = "1 a 10 0 avoid\n2 a 10 0\n3 a 10 0";
        let table = [
            ("three of three", draw(three, 3, &[])),
            ("one of three", draw(three, 1, &[])),
            ("four asked of three", draw(three, 4, &[])),
            ("three over two racks", draw(racks, 3, &[])),
            ("two over two racks", draw(racks, 2, &[])),
            ("one where rack a has two", draw(racks, 1, &["a", "a"])),
            ("by free space", draw(uneven, 1, &[])),
            ("by load", draw(loaded, 1, &[])),
            ("avoided while others suffice", draw(avoided, 2, &[])),
            ("avoided used when needed", draw(avoided, 3, &[])),
            ("none", draw("", 3, &[])),
        ];
        let text: Vec<String> = table.iter().map(|(name, drawn)| format!("{name}: {drawn}")).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    proptest! {
        #[test]
        fn servers_are_distinct_and_racks_spread(
            servers in proptest::collection::vec((0_u8..4, 0_u64..1 << 40, 0_u32..9, any::<bool>()), 0..12),
            want in 1_usize..8,
            seed in any::<u64>(),
        ) {
            let candidates: Vec<Candidate> = servers.iter().enumerate().map(|(i, (rack, free, load, _))| Candidate {
                server: ServerId(i as u64), volume: VolumeId(0), rack: format!("r{rack}"),
                free: *free, load: *load, avoid: false,
            }).collect();
            let chosen = choose(&candidates, want, &[], &mut Rng::new(seed));
            let distinct: BTreeSet<ServerId> = chosen.iter().map(|c| c.server).collect();
            prop_assert_eq!(distinct.len(), want.min(candidates.len()));
            let all: BTreeSet<&String> = candidates.iter().map(|c| &c.rack).collect();
            let used: BTreeSet<&String> = chosen.iter().map(|c| &c.rack).collect();
            prop_assert_eq!(used.len(), all.len().min(chosen.len()));
        }
    }
}
