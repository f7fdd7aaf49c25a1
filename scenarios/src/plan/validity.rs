//! Which plans can be carried out, and which leave the cluster a chance.

use super::Plan;
use crate::nemesis::{Fault, Target};

impl Plan {
    /// Whether it can be carried out: who is named exists, and strikes are in order of time.
    ///
    /// # Errors
    /// The first field that makes no sense, and why.
    pub fn check(&self) -> Result<(), (String, String)> {
        let no = |place: &str, reason: String| Err((place.to_owned(), reason));
        if self.shape.servers.is_empty() {
            return no("shape.servers", "a cluster needs a chunkserver; add one".into());
        }
        if let Some(i) = self.shape.servers.iter().position(|s| s.volumes == 0) {
            return no(
                &format!("shape.servers[{i}].volumes"),
                "a chunkserver needs at least 1 volume".into(),
            );
        }
        if self.shape.clients == 0 {
            return no("shape.clients", "users need at least 1 client".into());
        }
        for (i, storage) in self.shape.storages.iter().enumerate() {
            if usize::from(storage.replication) > self.shape.servers.len() {
                let reason = format!(
                    "{} replicas need as many chunkservers; there are {}",
                    storage.replication,
                    self.shape.servers.len()
                );
                return no(&format!("shape.storages[{i}].replication"), reason);
            }
        }
        let mut last = 0;
        for (i, strike) in self.strikes.iter().enumerate() {
            if strike.at_ms < last {
                let reason = format!("{} ms comes before the strike above; order them by time", strike.at_ms);
                return no(&format!("strikes[{i}].at_ms"), reason);
            }
            last = strike.at_ms;
            for target in strike.fault.targets() {
                if let Err(reason) = self.exists(target) {
                    return no(&format!("strikes[{i}].fault"), reason);
                }
            }
            if *strike.fault.target() == Target::Cued && strike.cue.is_none() {
                return no(&format!("strikes[{i}].cue"), "a target `cued` needs a cue to wait for".into());
            }
        }
        Ok(())
    }

    fn exists(&self, target: &Target) -> Result<(), String> {
        let (what, i, count) = match target {
            Target::Server(i) => ("server", *i, self.shape.servers.len()),
            Target::Client(i) => ("client", *i, self.shape.clients),
            _ => return Ok(()),
        };
        if i < count {
            Ok(())
        } else {
            Err(format!("there is no {what} {i}; the last one is {what} {}", count.saturating_sub(1)))
        }
    }

    /// Whether no more can be lost than the redundancy covers, so that every promise must hold.
    pub fn is_survivable(&self) -> bool {
        let mut losing: Vec<&Target> = self
            .strikes
            .iter()
            .map(|s| &s.fault)
            .filter(|fault: &&Fault| fault.loses_data(self.shape.is_relaxed()))
            .map(Fault::target)
            .collect();
        losing.sort();
        losing.dedup();
        let outage = |fault: &Fault| matches!(fault, Fault::Outage { power: true, .. });
        let all_at_once = self.shape.is_relaxed() && self.strikes.iter().any(|s| outage(&s.fault));
        losing.len() <= self.shape.victims_max() && !all_at_once
    }

    /// Its steps: what users do and what goes wrong.
    pub fn steps(&self) -> usize {
        self.strikes.len() + self.users.iter().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Cue;
    use crate::plan::{Moment, Strike};
    use crate::profile::Profile;

    fn strike(at_ms: u64, target: Target) -> Strike {
        Strike { at_ms, cue: None, for_ms: 1, fault: Fault::Kill { target } }
    }

    #[test]
    fn every_drawn_plan_can_be_carried_out_and_survived() {
        for seed in 0..300 {
            for profile in Profile::EACH {
                let plan = Plan::draw(seed, profile);
                assert_eq!(plan.check(), Ok(()), "seed {seed}, profile {profile}");
                assert!(plan.is_survivable(), "seed {seed}, profile {profile}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let with = |strikes: Vec<Strike>| Plan { strikes, ..Plan::tiny(1) };
        let (place, reason) = with(vec![strike(1, Target::Server(3))]).check().unwrap_err();
        assert_eq!(
            (place.as_str(), reason.as_str()),
            ("strikes[0].fault", "there is no server 3; the last one is server 2")
        );
        let (place, _) =
            with(vec![strike(5, Target::Master), strike(4, Target::Master)]).check().unwrap_err();
        assert_eq!(place, "strikes[1].at_ms");
        let (place, _) = with(vec![strike(5, Target::Cued)]).check().unwrap_err();
        assert_eq!(place, "strikes[0].cue");
        let cue = Some(Moment { what: Cue::Open, at: None, after_us: 1 });
        assert_eq!(with(vec![Strike { cue, ..strike(5, Target::Cued) }]).check(), Ok(()));
        let mut plan = Plan::tiny(1);
        plan.shape.servers.truncate(2);
        assert_eq!(plan.check().unwrap_err().0, "shape.storages[0].replication");
    }

    #[test]
    fn two_servers_that_lose_data_are_too_many() {
        let wipe = |i| Strike {
            fault: Fault::Wipe { target: Target::Server(i), volume: 0, power: false },
            ..strike(1, Target::Master)
        };
        assert!(Plan { strikes: vec![wipe(0), wipe(0)], ..Plan::tiny(1) }.is_survivable());
        assert!(!Plan { strikes: vec![wipe(0), wipe(1)], ..Plan::tiny(1) }.is_survivable());
    }
}
