use domain::{CallerIdRegistry, PhoneNumber};

/// A phone number, and the look for the number that calls it: what is a number is written by hand here once more.
pub fn phone_number(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let is_number = match bytes {
        [b'+', b'1'..=b'9', rest @ ..] => (1..=14).contains(&rest.len()) && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let read = PhoneNumber::parse(text);
    assert_eq!(read.is_ok(), is_number, "{text:?}");
    match read {
        Ok(number) => {
            assert_eq!(number.as_str(), text);
            assert_eq!(PhoneNumber::parse(number.as_str()), Ok(number.clone()));
            assert!(!format!("{number:?}").contains(|c: char| c.is_ascii_digit()), "it is not shown in logs");
            check_caller(&number);
        }
        Err(error) => assert_eq!(Err(error), PhoneNumber::parse(""), "what was sent is not repeated"),
    }
    // A key of the registry comes from an operator, and may be anything.
    if let Ok(registry) = CallerIdRegistry::new([(text.to_owned(), "+15005550006".to_owned())]) {
        let somebody = PhoneNumber::parse("+3851111111").expect("a number");
        let fits = text == "default" || "+3851111111".starts_with(text);
        assert_eq!(registry.caller_for(&somebody).is_some(), fits, "{text:?}");
    }
}

/// Of the prefixes of a number, the longest decides.
fn check_caller(number: &PhoneNumber) {
    let text = number.as_str();
    for length in 1..=text.len() {
        let pairs = (1..=length).map(|end| (text[..end].to_owned(), format!("+{end}")));
        let registry = CallerIdRegistry::new(pairs).expect("prefixes of a number");
        assert_eq!(registry.caller_for(number), Some(format!("+{length}").as_str()));
    }
}
