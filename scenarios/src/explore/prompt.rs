//! Prompt disks: what a node asks of its disk ends before anything else happens to the node.
//!
//! Most events of a small scope are ends of disk operations, and most orders of them make no difference. Where all of them would
//! be too many, a budget says how many operations are slow, and whatever else the disk does is a part of the step that asked
//! for it. Deaths are explored at every place within.

use super::node::{Happening, Node, Reaction};

impl Reaction {
    fn join(&mut self, later: Reaction) {
        self.sends.extend(later.sends);
        self.closes.extend(later.closes);
        self.fault = self.fault.take().or(later.fault);
    }
}

impl Node {
    /// Lets something happen, and then all that it asks of the disk, in that order, but for the operation `slow` (counted from
    /// 1; 0 for none). Also how many operations there were, a chain counting as one.
    pub(super) fn happen_promptly(&mut self, happening: Happening, slow: u8) -> (Reaction, u8) {
        let mut held = self.held_by(&happening);
        let mut operations = 0;
        let mut reaction = self.happen(happening);
        while reaction.fault.is_none() && self.under_way().len() > held {
            operations += 1;
            if operations == slow {
                held += 1;
                continue;
            }
            reaction.join(self.happen(Happening::Completed(held)));
        }
        (reaction, operations)
    }

    /// How many operations stay under way whatever is asked for now.
    fn held_by(&self, happening: &Happening) -> usize {
        self.under_way().len() - usize::from(matches!(happening, Happening::Completed(_)))
    }

    /// What the process may leave behind if it dies on the way, and what it had sent until then.
    pub(super) fn deaths_within(
        mut self,
        happening: Happening,
        power: bool,
    ) -> Vec<(String, Node, Reaction)> {
        let held = self.held_by(&happening);
        let mut deaths = Vec::new();
        let mut reaction = self.happen(happening);
        while reaction.fault.is_none() && self.under_way().len() > held {
            let sent =
                || Reaction { sends: reaction.sends.clone(), closes: reaction.closes.clone(), fault: None };
            deaths.extend(self.deaths(power).into_iter().map(|(name, left)| (name, left, sent())));
            reaction.join(self.happen(Happening::Completed(held)));
        }
        deaths
    }
}
