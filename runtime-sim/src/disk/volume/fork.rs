//! A volume's double: what happens to it does not happen to the volume. Both share what neither changes.

use super::Volume;
use crate::options::DiskFaults;

impl Volume {
    /// A double that does what it is told: of all that may be wrong with the disk it has only the lack of room.
    pub(crate) fn fork(&self) -> Volume {
        let capacity_bytes = self.faults.capacity_bytes;
        Volume { faults: DiskFaults { capacity_bytes, ..DiskFaults::default() }, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::disk::{DiskPath, DiskRequest};
    use cairn_core::rng::Rng;

    use super::super::tests::{perform, write};
    use super::*;
    use crate::outcome::FaultCounts;

    fn with_rest() -> Volume {
        let mut volume = Volume::new(DiskFaults::default());
        volume.put_by_hand("a", b"rest");
        volume
    }

    #[test]
    fn what_happens_to_a_double_does_not_happen_to_the_volume() {
        let (mut volume, mut rng) = (with_rest(), Rng::new(1));
        let path = |name: &str| DiskPath::new(0, name);
        perform(&mut volume, &mut rng, write("a", b"late")).unwrap();
        let mut double = volume.fork();
        perform(&mut double, &mut rng, write("a", b"fork")).unwrap();
        perform(&mut double, &mut rng, DiskRequest::Rename { from: path("a"), to: path("b") }).unwrap();
        let seen = |volume: &Volume, name| volume.with_cached(name, |bytes| bytes.to_vec());
        assert_eq!((seen(&double, "a"), seen(&double, "b")), (None, Some(b"fork".to_vec())));
        assert_eq!(seen(&volume, "a"), Some(b"late".to_vec()));
        assert_eq!(volume.durable("a"), Some(&b"rest"[..]));
        // The double has the same at risk: its unsynced write, not the volume's, may be lost.
        let mut lost = 0;
        for seed in 0..20 {
            let mut cut = volume.fork();
            cut.cut_power(&mut Rng::new(seed), &mut FaultCounts::default());
            lost += u32::from(seen(&cut, "a") == Some(b"rest".to_vec()));
        }
        assert!((1..20).contains(&lost), "{lost} of 20 power cuts lost an unsynced write");
    }

    #[test]
    fn what_a_failed_sync_forgot_stays_at_risk() {
        let mut forgotten = 0;
        let sync = || DiskRequest::Sync(DiskPath::new(0, "a"));
        for seed in 0..20 {
            let (mut volume, mut rng) = (with_rest(), Rng::new(seed));
            perform(&mut volume, &mut rng, write("a", b"late")).unwrap();
            volume.faults.sync_errors_per_million = 1_000_000;
            perform(&mut volume, &mut rng, sync()).unwrap_err();
            volume.faults.sync_errors_per_million = 0;
            perform(&mut volume, &mut rng, sync()).unwrap();
            let is_lost = volume.durable("a") == Some(b"rest");
            assert_eq!(volume.unsynced_names().contains("a"), is_lost, "seed {seed}");
            forgotten += u32::from(is_lost);
        }
        assert!((1..20).contains(&forgotten), "{forgotten} of 20 failed syncs forgot a write");
    }
}
