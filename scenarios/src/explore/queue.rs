//! What is under way in one direction of a connection. States are copied by the hundred million, so it holds its few messages
//! itself.

/// Messages by number, the first one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Queue {
    len: u8,
    /// Zero beyond `len`, so that equal queues compare as equal.
    messages: [u32; Queue::MOST],
}

impl Queue {
    /// No scope has more under way in one direction.
    const MOST: usize = 7;

    pub(super) fn push(&mut self, message: u32) {
        assert!(self.len() < Queue::MOST, "a scope has more messages under way than a queue holds");
        self.messages[self.len()] = message;
        self.len += 1;
    }

    /// Takes the first message, which must be there.
    pub(super) fn take(&mut self) -> u32 {
        let first = self[0];
        self.messages.copy_within(1.., 0);
        self.messages[Queue::MOST - 1] = 0;
        self.len -= 1;
        first
    }

    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }
}

impl std::ops::Deref for Queue {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.messages[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_in_their_order_and_leave_nothing_behind() {
        let mut queue = Queue::default();
        (1..=7).for_each(|message| queue.push(message));
        assert_eq!((1..=7).map(|_| queue.take()).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
        assert_eq!(queue, Queue::default());
    }

    #[test]
    #[should_panic(expected = "more messages under way")]
    fn a_full_queue_drops_nothing_in_silence() {
        let mut queue = Queue::default();
        (0..8).for_each(|message| queue.push(message));
    }
}
