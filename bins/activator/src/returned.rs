use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

use domain::NotificationId;
use store::Publication;
use wire::Dispatch;

/// What the broker has sent back in one session, and why, until it is found among the session's publications.
///
/// The broker sends a message back before it confirms it, but lapin tells of it with whichever confirm it comes to next, be it
/// another message's. Only the ids in the body say which it was.
#[derive(Debug, Default)]
pub(crate) struct Returned(Mutex<HashMap<NotificationId, String>>);

impl Returned {
    pub(crate) fn add(&self, message: &broker::Returned) {
        let ids = Dispatch::ids_in(&message.body);
        self.reasons().extend(ids.into_iter().map(|id| (id, message.reason.clone())));
    }

    /// Takes those that were sent back from what is confirmed, by the reason.
    pub(crate) fn take_from(&self, confirmed: &mut Vec<Publication>) -> BTreeMap<String, Vec<Publication>> {
        let mut reasons = self.reasons();
        let mut returned: BTreeMap<String, Vec<Publication>> = BTreeMap::new();
        confirmed.retain(|publication| match reasons.remove(&publication.id) {
            Some(reason) => {
                returned.entry(reason).or_default().push(*publication);
                false
            }
            None => true,
        });
        returned
    }

    fn reasons(&self) -> MutexGuard<'_, HashMap<NotificationId, String>> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::Item;

    use super::*;

    #[test]
    fn the_body_says_which_message_came_back() {
        let returned = Returned::default();
        let items = [7, 8].map(|id| Item { id: NotificationId(id), due_at: None }).to_vec();
        let body = Dispatch { items }.to_json();
        returned.add(&broker::Returned { reason: "no route".to_owned(), body });
        let publication = |id| Publication { id: NotificationId(id), fence: 1, busy_until: Timestamp::UNIX_EPOCH };
        let (mut first, mut second) = (vec![publication(3), publication(8)], vec![publication(7), publication(9)]);
        assert_eq!(returned.take_from(&mut first), [("no route".to_owned(), vec![publication(8)])].into());
        assert_eq!(returned.take_from(&mut second), [("no route".to_owned(), vec![publication(7)])].into());
        assert_eq!((first, second), (vec![publication(3)], vec![publication(9)]));
        assert!(returned.take_from(&mut vec![publication(7)]).is_empty(), "what is published again is another message");
    }
}
