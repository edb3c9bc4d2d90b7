use wire::{Dispatch, MAX_ITEMS};

/// The body of a message on the broker: what is read can be written and read again, and what can't names no
/// notification.
pub fn dispatch(body: &[u8]) {
    let ids = Dispatch::ids_in(body);
    match Dispatch::from_json(body) {
        Ok(read) => {
            assert!((1..=MAX_ITEMS).contains(&read.items.len()));
            assert!(read.items.iter().map(|item| item.id).eq(ids));
            let written = read.to_json();
            let again = Dispatch::from_json(&written).expect("what was written can be read");
            assert_eq!(again, read);
            assert_eq!(again.to_json(), written);
        }
        Err(error) => {
            assert!(ids.is_empty());
            assert!(!error.to_string().is_empty());
        }
    }
}
