//! A bounded FIFO queue with a limit per client.

use crate::net::subnet::SubnetKey;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

/// Queued requests in the order of arrival.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    waiters: BTreeMap<Ticket, (SubnetKey, W)>,
    /// Number of queued requests per client.
    per_client: HashMap<SubnetKey, usize>,
    next: u64,
}

/// A position in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Why the queue does not accept a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueLimit {
    /// The queue is at its limit.
    Full,
    /// The client is at its limit in this queue.
    Share,
}

// === impl Queue ===

impl<W> Queue<W> {
    /// Creates an empty queue.
    pub(crate) fn new() -> Self {
        Queue {
            waiters: BTreeMap::new(),
            per_client: HashMap::new(),
            next: 0,
        }
    }

    /// Returns the number of queued requests.
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Appends a request if the queue is shorter than `max_len`, and the client has fewer than a tenth of that.
    pub(crate) fn push(
        &mut self,
        client: IpAddr,
        max_len: usize,
        waiter: W,
    ) -> Result<Ticket, QueueLimit> {
        if self.len() >= max_len {
            return Err(QueueLimit::Full);
        }
        let client = SubnetKey::of(client);
        let count = self.per_client.entry(client).or_default();
        if *count >= (max_len / QUEUE_SHARE).max(1) {
            return Err(QueueLimit::Share);
        }
        *count += 1;
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiters.insert(ticket, (client, waiter));
        Ok(ticket)
    }

    /// Removes a request at any position; `None` if it is not queued any longer.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        let (client, waiter) = self.waiters.remove(&ticket)?;
        if let Some(count) = self.per_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.per_client.remove(&client);
            }
        }
        Some(waiter)
    }

    /// Removes all requests.
    pub(crate) fn clear(&mut self) -> Vec<W> {
        self.per_client.clear();
        let all = std::mem::take(&mut self.waiters);
        all.into_values().map(|(_, waiter)| waiter).collect()
    }

    /// Returns the first request that `fits`, and its client.
    pub(crate) fn first(
        &self,
        fits: impl Fn(SubnetKey, &W) -> bool,
    ) -> Option<(Ticket, SubnetKey)> {
        let mut waiters = self.waiters.iter();
        let (ticket, (client, _)) = waiters.find(|(_, (client, waiter))| fits(*client, waiter))?;
        Some((*ticket, *client))
    }
}

/// One client may use 1/10 of the queue.
const QUEUE_SHARE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn client_may_use_a_tenth_of_the_queue_and_at_least_one_position() {
        let mut queue = Queue::new();
        let first = queue.push(client(1), 20, 'a').unwrap();
        queue.push(client(1), 20, 'b').unwrap();
        assert_eq!(queue.push(client(1), 20, 'c'), Err(QueueLimit::Share));
        queue.push(client(2), 20, 'd').unwrap();
        assert_eq!(queue.remove(first), Some('a'));
        assert_eq!(queue.remove(first), None);
        queue.push(client(1), 20, 'e').unwrap();
        let mut small = Queue::new();
        small.push(client(1), 2, ()).unwrap();
        assert_eq!(small.push(client(1), 2, ()), Err(QueueLimit::Share));
        small.push(client(2), 2, ()).unwrap();
        assert_eq!(small.push(client(3), 2, ()), Err(QueueLimit::Full));
        assert_eq!(Queue::new().push(client(1), 0, ()), Err(QueueLimit::Full));
    }

    proptest! {
        /// Compares with a list that has the same limits.
        #[test]
        fn queue_behaves_like_a_bounded_list(
            max_len in 0_usize..40,
            moves in proptest::collection::vec(
                prop_oneof![
                    3 => (0_u8..6).prop_map(|client| (0, client)),
                    1 => (0_u8..40).prop_map(|at| (1, at)),
                    1 => (1_u8..4).prop_map(|fits| (2, fits)),
                ],
                0..200,
            ),
        ) {
            let mut queue = Queue::new();
            let mut list: Vec<(u8, usize, Ticket)> = vec![];
            for (number, (action, arg)) in moves.into_iter().enumerate() {
                match action {
                    0 => {
                        let of_client = list.iter().filter(|(client, ..)| *client == arg).count();
                        let expected = match () {
                            () if list.len() >= max_len => Some(QueueLimit::Full),
                            () if of_client >= (max_len / 10).max(1) => Some(QueueLimit::Share),
                            () => None,
                        };
                        match queue.push(client(arg), max_len, number) {
                            Ok(ticket) => {
                                prop_assert_eq!(expected, None);
                                list.push((arg, number, ticket));
                            }
                            Err(why) => prop_assert_eq!(expected, Some(why)),
                        }
                    }
                    1 if usize::from(arg) < list.len() => {
                        let (_, number, ticket) = list.remove(arg.into());
                        prop_assert_eq!(queue.remove(ticket), Some(number));
                    }
                    1 => {}
                    _ => {
                        let fits = |number: usize| number.is_multiple_of(arg.into());
                        let first = list.iter().position(|(_, number, _)| fits(*number));
                        let first = first.map(|at| list.remove(at).1);
                        let found = queue.first(|_, number| fits(*number));
                        prop_assert_eq!(found.and_then(|(ticket, _)| queue.remove(ticket)), first);
                    }
                }
                prop_assert_eq!(queue.len(), list.len());
            }
            let clients: std::collections::HashSet<u8> = list.iter().map(|one| one.0).collect();
            prop_assert_eq!(queue.per_client.len(), clients.len());
        }
    }
}
