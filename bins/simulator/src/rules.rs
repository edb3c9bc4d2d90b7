use serde::{Deserialize, Serialize};

/// How to misbehave towards an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which addresses; `*` stands for any characters.
    pub address: String,
    /// Wait so long before anything else.
    #[serde(default)]
    pub delay_ms: u64,
    /// Answer this HTTP status or SMTP code instead of accepting.
    #[serde(default)]
    pub status: Option<u16>,
    /// Where in an SMTP session.
    #[serde(default)]
    pub stage: Stage,
    /// With this Retry-After header, in seconds.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// With this Location header.
    #[serde(default)]
    pub location: Option<String>,
    /// With this Twilio error code.
    #[serde(default)]
    pub code: Option<u32>,
    /// With these words, where the provider says some.
    #[serde(default)]
    pub words: Option<String>,
    /// Accept, then break the connection without an answer; of a mail, after all of it has come.
    #[serde(default)]
    pub drop: bool,
    /// Never answer.
    #[serde(default)]
    pub hang: bool,
    /// Only so many times.
    #[serde(default)]
    pub times: Option<u64>,
}

/// A point in an SMTP session at which a rule's status is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// When a session begins, whatever the address.
    Greeting,
    /// At the login, whatever the address.
    Login,
    /// When the recipient is named.
    #[default]
    Recipient,
    /// When all of the mail has come, by its first recipient.
    End,
}

/// The rule for an address, whose times are counted down.
pub(crate) fn rule_for(rules: &mut [Rule], address: &str) -> Rule {
    find_rule(rules, |rule| fits(&rule.address, address))
}

/// The rule for a stage of an SMTP session. Those that need no stage, such as `hang`, apply when all of the mail has
/// come.
pub(crate) fn rule_at(rules: &mut [Rule], stage: Stage, address: &str) -> Rule {
    find_rule(rules, |rule| {
        let rule_stage = if rule.status.is_some() { rule.stage } else { Stage::End };
        rule_stage == stage && (matches!(stage, Stage::Greeting | Stage::Login) || fits(&rule.address, address))
    })
}

fn find_rule(rules: &mut [Rule], fits: impl Fn(&Rule) -> bool) -> Rule {
    let Some(rule) = rules.iter_mut().find(|rule| rule.times != Some(0) && fits(rule)) else {
        return Rule::default();
    };
    if let Some(times) = &mut rule.times {
        *times -= 1;
    }
    rule.clone()
}

fn fits(pattern: &str, address: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == address };
    let Some(mut left) = address.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').map_or((None, rest), |(middle, end)| (Some(middle), end));
    for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, address, fit) in [
            ("+385777", "+385777", true),
            ("+385777", "+3857770", false),
            ("+385*", "+385", true),
            ("*", "", true),
            ("*77", "+385777", true),
            ("+3*5*7", "+385777", true),
            ("+3*6*7", "+385777", false),
            ("+385777*7", "+385777", false),
        ] {
            assert_eq!(fits(pattern, address), fit, "{pattern} {address}");
        }
    }

    #[test]
    fn a_rule_is_used_up() {
        let rule = |status, times| Rule { address: "*".to_owned(), status: Some(status), times, ..Rule::default() };
        let mut rules = [rule(503, Some(2)), rule(429, Some(1))];
        let statuses: Vec<_> = (0..4).map(|_| rule_for(&mut rules, "+1").status).collect();
        assert_eq!(statuses, [Some(503), Some(503), Some(429), None]);
    }
}
